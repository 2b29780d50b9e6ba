//! Logging in on the wire, what follows from it, and the administration of users and rules.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName as Asked;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, ApiVersionsRequest, CreateAclsRequest, DeleteAclsRequest,
    DescribeAclsRequest, DescribeUserScramCredentialsRequest, InitProducerIdRequest,
    MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
};

use super::data::{fetch, produce};
use super::*;
use crate::broker::{Secret, Session};
use crate::state::access::{AccessAction, ScramMechanism};
use crate::types::UserName;

const ILLEGAL_STATE: i16 = 34;
const UNSUPPORTED_MECHANISM: i16 = 33;
const FAILED: i16 = 58;
const CLUSTER: i16 = 31;
const TOPIC: i16 = 29;

async fn change(rig: &Rig, action: AccessAction) {
    let session = Session::internal("test");
    rig.node
        .broker()
        .change_users(&session, action)
        .await
        .unwrap();
}

async fn user(rig: &Rig, name: &str, superuser: bool) {
    let password = Secret::new(format!("{name}'s password"));
    let verifiers = rig.node.broker().verifiers(&password).await.unwrap();
    let user = UserName::new(name).unwrap();
    change(
        rig,
        AccessAction::CreateUser {
            user,
            superuser,
            verifiers,
        },
    )
    .await;
}

/// A node with the users `root`, a superuser, and `alice`.
async fn rig() -> Rig {
    rig_with(KafkaOptions::default()).await
}

async fn rig_with(options: KafkaOptions) -> Rig {
    let rig = Rig::with(options).await;
    user(&rig, "root", true).await;
    user(&rig, "alice", false).await;
    rig
}

async fn handshake(client: &mut Client, mechanism: &str) -> i16 {
    let request = SaslHandshakeRequest::default().with_mechanism(words(mechanism));
    let answer = client.call(1, request).await;
    answer.error_code
}

/// The code, the sentence and for how long it holds.
async fn authenticate(client: &mut Client, token: &[u8]) -> (i16, String, Bytes, i64) {
    let token = Bytes::copy_from_slice(token);
    let request = SaslAuthenticateRequest::default().with_auth_bytes(token);
    let answer = client.call(2, request).await;
    let said = answer.error_message.unwrap_or_default().to_string();
    (
        answer.error_code,
        said,
        answer.auth_bytes,
        answer.session_lifetime_ms,
    )
}

async fn plain(client: &mut Client, name: &str) -> i16 {
    assert_eq!(handshake(client, "PLAIN").await, 0);
    let token = format!("\0{name}\0{name}'s password");
    authenticate(client, token.as_bytes()).await.0
}

/// A client that has logged in.
async fn client(rig: &Rig, name: &str) -> Client {
    let mut client = rig.connect_to("kafka-sasl");
    assert_eq!(plain(&mut client, name).await, 0);
    client
}

async fn sees(client: &mut Client, topic: &str) -> i16 {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(false);
    client.call(8, request).await.topics[0].error_code
}

fn rule(principal: &str, operation: i8, topic: &str) -> AclCreation {
    AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(words(topic))
        .with_resource_pattern_type(3)
        .with_principal(words(principal))
        .with_host(words("*"))
        .with_operation(operation)
        .with_permission_type(3)
}

async fn allow(client: &mut Client, rules: Vec<AclCreation>) -> Vec<i16> {
    let answer = client
        .call(3, CreateAclsRequest::default().with_creations(rules))
        .await;
    answer.results.iter().map(|one| one.error_code).collect()
}

#[tokio::test(start_paused = true)]
async fn before_a_login_nothing_is_answered_but_what_it_needs() {
    let rig = rig().await;
    let mut early = rig.connect_to("kafka-sasl");
    let versions = early.call(0, ApiVersionsRequest::default()).await;
    assert_eq!(versions.error_code, 0);
    early.send(8, &MetadataRequest::default()).await;
    early.expect_close().await;
    // Neither after the handshake alone.
    let mut early = rig.connect_to("kafka-sasl");
    assert_eq!(handshake(&mut early, "SCRAM-SHA-256").await, 0);
    early.send(8, &MetadataRequest::default()).await;
    early.expect_close().await;
    // Nor is there as much space for what it says as afterwards.
    let mut early = rig.connect_to("kafka-sasl");
    early
        .stream
        .write_all(&(600 * 1024_i32).to_be_bytes())
        .await
        .unwrap();
    early.expect_close().await;
    let mut root = client(&rig, "root").await;
    create(&mut root, "t", 1).await;
    let large = "x".repeat(600 * 1024);
    assert_eq!(
        produce(&mut root, 9, "t", batch(&[&large]))
            .await
            .error_code,
        0
    );
    // Where nobody has to log in, nobody can.
    let mut open = rig.connect();
    assert_eq!(handshake(&mut open, "PLAIN").await, ILLEGAL_STATE);
    let (code, ..) = authenticate(&mut open, b"\0root\0root's password").await;
    assert_eq!(code, ILLEGAL_STATE);
    assert_eq!(sees(&mut open, "t").await, TOPIC, "it is User:ANONYMOUS");
}

#[tokio::test(start_paused = true)]
async fn what_one_may_do_follows_from_who_one_is() {
    let rig = rig().await;
    let (mut root, mut alice) = (client(&rig, "root").await, client(&rig, "alice").await);
    create(&mut root, "t", 1).await;
    for topic in ["t", "nowhere"] {
        assert_eq!(sees(&mut alice, topic).await, TOPIC);
    }
    assert_eq!(
        allow(&mut alice, vec![rule("User:alice", 2, "t")]).await,
        [CLUSTER]
    );
    assert_eq!(
        allow(&mut root, vec![rule("User:alice", 3, "t")]).await,
        [0]
    );
    assert_eq!(sees(&mut alice, "t").await, 0);
    assert_eq!(sees(&mut root, "nowhere").await, 3);
    let refused = produce(&mut alice, 9, "t", batch(&["v"])).await;
    assert_eq!(refused.error_code, TOPIC);
    let producer = || InitProducerIdRequest::default().with_transactional_id(None);
    assert_eq!(alice.call(4, producer()).await.error_code, CLUSTER);
    assert_eq!(
        produce(&mut root, 9, "t", batch(&["v"])).await.error_code,
        0
    );
    assert_eq!(fetch(&mut alice, 4, "t", 0).await.error_code, 0);
    // Who may write a topic may be an idempotent producer.
    assert_eq!(
        allow(&mut root, vec![rule("User:alice", 4, "t")]).await,
        [0]
    );
    assert_eq!(alice.call(4, producer()).await.error_code, 0);
    assert_eq!(
        produce(&mut alice, 9, "t", batch(&["v"])).await.error_code,
        0
    );
    // A user that is disabled may do nothing any more, without a login in between.
    let disable = AccessAction::AlterUser {
        user: UserName::new("alice").unwrap(),
        superuser: None,
        disabled: Some(true),
    };
    change(&rig, disable).await;
    assert_eq!(
        produce(&mut alice, 9, "t", batch(&["v"])).await.error_code,
        TOPIC
    );
    assert_eq!(sees(&mut alice, "t").await, TOPIC);
}

#[tokio::test(start_paused = true)]
async fn who_fails_is_told_so_in_kafkas_words_and_is_disconnected() {
    let rig = rig().await;
    for (token, said) in [
        (
            &b"\0root\0wrong"[..],
            "Authentication failed: Invalid username or password",
        ),
        (
            b"\0nobody\0wrong",
            "Authentication failed: Invalid username or password",
        ),
        (b"root", "Invalid SASL/PLAIN response: expected 3 tokens"),
    ] {
        let mut client = rig.connect_to("kafka-sasl");
        assert_eq!(handshake(&mut client, "PLAIN").await, 0);
        let (code, message, ..) = authenticate(&mut client, token).await;
        assert_eq!((code, message.as_str()), (FAILED, said));
        client.expect_close().await;
    }
    let mut unknown = rig.connect_to("kafka-sasl");
    let request = SaslHandshakeRequest::default().with_mechanism(words("GSSAPI"));
    let answer = unknown.call(1, request).await;
    assert_eq!(answer.error_code, UNSUPPORTED_MECHANISM);
    let offered: Vec<String> = answer.mechanisms.iter().map(ToString::to_string).collect();
    assert_eq!(offered, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    unknown.expect_close().await;
    let metrics = rig.metrics();
    for line in [
        r#"weir_kafka_logins_total{mechanism="PLAIN",result="failed"} 3"#,
        r#"weir_kafka_connections_closed_total{reason="login"} 4"#,
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

/// Logs in with SCRAM as clients do.
async fn scram(client: &mut Client, mechanism: ScramMechanism, name: &str, password: &str) -> i16 {
    use aws_lc_rs::{digest, hmac, pbkdf2};
    let (hashed, algorithm, digested) = match mechanism {
        ScramMechanism::Sha256 => (
            pbkdf2::PBKDF2_HMAC_SHA256,
            hmac::HMAC_SHA256,
            &digest::SHA256,
        ),
        ScramMechanism::Sha512 => (
            pbkdf2::PBKDF2_HMAC_SHA512,
            hmac::HMAC_SHA512,
            &digest::SHA512,
        ),
    };
    assert_eq!(handshake(client, mechanism.name()).await, 0);
    let bare = format!("n={name},r=fyko+d2lbbFgONRv9qkxdawL");
    let (code, _, challenge, _) = authenticate(client, format!("n,,{bare}").as_bytes()).await;
    assert_eq!(code, 0);
    let challenge = std::str::from_utf8(&challenge).unwrap();
    let mut fields = challenge.splitn(3, ',');
    let nonce = fields.next().unwrap().strip_prefix("r=").unwrap();
    let salt = STANDARD
        .decode(fields.next().unwrap().strip_prefix("s=").unwrap())
        .unwrap();
    let rounds = fields
        .next()
        .unwrap()
        .strip_prefix("i=")
        .unwrap()
        .parse()
        .unwrap();
    let mut salted = vec![0; mechanism.hash_len()];
    pbkdf2::derive(hashed, rounds, &salt, password.as_bytes(), &mut salted);
    let sign = |key: &[u8], message: &str| {
        hmac::sign(&hmac::Key::new(algorithm, key), message.as_bytes())
            .as_ref()
            .to_vec()
    };
    let client_key = sign(&salted, "Client Key");
    let stored_key = digest::digest(digested, &client_key);
    let without_proof = format!("c=biws,r={nonce}");
    let signed = format!("{bare},{challenge},{without_proof}");
    let signature = sign(stored_key.as_ref(), &signed);
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(a, b)| a ^ b)
        .collect();
    let last = format!("{without_proof},p={}", STANDARD.encode(proof));
    let (code, _, told, _) = authenticate(client, last.as_bytes()).await;
    if code == 0 {
        let server = sign(&sign(&salted, "Server Key"), &signed);
        assert_eq!(told, format!("v={}", STANDARD.encode(server)));
    }
    code
}

#[tokio::test(start_paused = true)]
async fn a_client_proves_that_it_knows_its_password() {
    let rig = rig().await;
    for mechanism in ScramMechanism::ALL {
        let mut client = rig.connect_to("kafka-sasl");
        assert_eq!(
            scram(&mut client, mechanism, "root", "root's password").await,
            0
        );
        assert_eq!(sees(&mut client, "nowhere").await, 3);
        for name in ["root", "nobody"] {
            let mut client = rig.connect_to("kafka-sasl");
            assert_eq!(scram(&mut client, mechanism, name, "wrong").await, FAILED);
            client.expect_close().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_taken_bare_after_the_first_version_of_the_handshake() {
    let rig = rig().await;
    let begin = async || {
        let mut client = rig.connect_to("kafka-sasl");
        let request = SaslHandshakeRequest::default().with_mechanism(words("PLAIN"));
        assert_eq!(client.call(0, request).await.error_code, 0);
        client
    };
    let mut client = begin().await;
    client.send_frame(b"\0root\0root's password").await;
    assert_eq!(client.frame().await.unwrap().len(), 0);
    assert_eq!(sees(&mut client, "nowhere").await, 3);
    let mut client = begin().await;
    client.send_frame(b"\0root\0wrong").await;
    client.expect_close().await;
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_bounded_is_repeated_by_the_same_user_or_ends() {
    let options = KafkaOptions {
        max_login: Some(Duration::from_secs(60)),
        ..KafkaOptions::default()
    };
    let rig = rig_with(options).await;
    let mut client = rig.connect_to("kafka-sasl");
    assert_eq!(handshake(&mut client, "PLAIN").await, 0);
    let token = b"\0root\0root's password";
    let (code, _, _, lifetime) = authenticate(&mut client, token).await;
    assert_eq!((code, lifetime), (0, 60_000));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(sees(&mut client, "nowhere").await, 3);
        assert_eq!(plain(&mut client, "root").await, 0);
    }
    // An expired one may still log in again.
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(plain(&mut client, "root").await, 0);
    assert_eq!(sees(&mut client, "nowhere").await, 3);
    tokio::time::sleep(Duration::from_secs(61)).await;
    client.send(8, &MetadataRequest::default()).await;
    client.expect_close().await;

    let mut other = self::client(&rig, "root").await;
    assert_eq!(plain(&mut other, "alice").await, FAILED);
    other.expect_close().await;
    let mut other = self::client(&rig, "root").await;
    assert_eq!(handshake(&mut other, "SCRAM-SHA-256").await, ILLEGAL_STATE);
    other.expect_close().await;
    let mut again = self::client(&rig, "root").await;
    let (code, ..) = authenticate(&mut again, token).await;
    assert_eq!(code, ILLEGAL_STATE);
}

#[tokio::test(start_paused = true)]
async fn passwords_are_set_by_kafkas_tools_and_log_users_in() {
    let rig = rig().await;
    let mut root = client(&rig, "root").await;
    let salted = |password: &str, salt: &[u8], rounds: u32| {
        let mut salted = vec![0; 64];
        let algorithm = aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA512;
        let rounds = rounds.try_into().unwrap();
        aws_lc_rs::pbkdf2::derive(algorithm, rounds, salt, password.as_bytes(), &mut salted);
        Bytes::from(salted)
    };
    let set = |name: &str, iterations: i32| {
        ScramCredentialUpsertion::default()
            .with_name(words(name))
            .with_mechanism(2)
            .with_iterations(iterations)
            .with_salt(Bytes::from_static(b"salt"))
            .with_salted_password(salted("new password", b"salt", 4096))
    };
    let delete = |name: &str| {
        ScramCredentialDeletion::default()
            .with_name(words(name))
            .with_mechanism(2)
    };
    let mut alter = async |deletions, upsertions| {
        let request = AlterUserScramCredentialsRequest::default()
            .with_deletions(deletions)
            .with_upsertions(upsertions);
        let answer = root.call(0, request).await;
        let results = answer.results.iter();
        results
            .map(|one| (one.user.to_string(), one.error_code))
            .collect::<Vec<_>>()
    };
    let upsertions = vec![
        set("bob", 4096),
        set("carl", 4095),
        set("dora", 16_385),
        set("", 4096),
    ];
    let results = alter(vec![delete("nobody")], upsertions).await;
    let expected = [
        ("", 93),
        ("bob", 0),
        ("carl", 93),
        ("dora", 93),
        ("nobody", 91),
    ];
    assert_eq!(
        results,
        expected.map(|(user, code)| (user.to_owned(), code))
    );
    let results = alter(vec![delete("bob")], vec![set("bob", 4096)]).await;
    assert_eq!(results, [("bob".to_owned(), 92)]);
    let mut bob = rig.connect_to("kafka-sasl");
    let code = scram(&mut bob, ScramMechanism::Sha512, "bob", "new password").await;
    assert_eq!(code, 0);
    assert_eq!(sees(&mut bob, "nowhere").await, TOPIC);

    let mut root = client(&rig, "root").await;
    let asked = |names: &[&str]| {
        let users = names
            .iter()
            .map(|name| Asked::default().with_name(words(name)));
        DescribeUserScramCredentialsRequest::default().with_users(Some(users.collect()))
    };
    let answer = root.call(0, asked(&[])).await;
    let told = answer.results.iter().map(|one| {
        let infos = one
            .credential_infos
            .iter()
            .map(|info| (info.mechanism, info.iterations));
        (one.user.to_string(), infos.collect::<BTreeSet<_>>())
    });
    let both = BTreeSet::from([(1, 8192), (2, 8192)]);
    let expected = [
        ("alice".to_owned(), both.clone()),
        ("bob".to_owned(), BTreeSet::from([(2, 4096)])),
        ("root".to_owned(), both),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let answer = root
        .call(0, asked(&["bob", "nobody", "root", "root"]))
        .await;
    let codes: Vec<i16> = answer.results.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [0, 91, 92]);
}

#[tokio::test(start_paused = true)]
async fn rules_are_made_found_and_removed() {
    let rig = rig().await;
    let mut root = client(&rig, "root").await;
    let bad = rule("alice", 3, "t");
    let worse = rule("User:alice", 1, "t");
    let cluster = rule("User:alice", 3, "t").with_resource_type(4);
    let rules = vec![
        rule("User:alice", 3, "t"),
        bad,
        worse,
        cluster,
        rule("User:b", 4, "u"),
    ];
    assert_eq!(allow(&mut root, rules).await, [0, 42, 42, 42, 0]);
    let asked = |principal: Option<&str>| {
        DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_resource_name_filter(None)
            .with_pattern_type_filter(1)
            .with_principal_filter(principal.map(words))
            .with_host_filter(None)
            .with_operation(1)
            .with_permission_type(1)
    };
    for version in 1..=3 {
        let answer = root.call(version, asked(None)).await;
        let told = answer
            .resources
            .iter()
            .map(|of| (of.resource_name.to_string(), of.acls.len()));
        let expected = [("t".to_owned(), 1), ("u".to_owned(), 1)];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
    let answer = root.call(3, asked(None).with_operation(0)).await;
    assert_eq!(answer.error_code, 42);
    let filter = |principal: &str| {
        DeleteAclsFilter::default()
            .with_resource_type_filter(1)
            .with_pattern_type_filter(1)
            .with_principal_filter(Some(words(principal)))
            .with_resource_name_filter(None)
            .with_host_filter(None)
            .with_operation(1)
            .with_permission_type(1)
    };
    let filters = vec![
        filter("User:alice"),
        filter("User:nobody"),
        filter("User:b").with_operation(0),
    ];
    let answer = root
        .call(3, DeleteAclsRequest::default().with_filters(filters))
        .await;
    let told: Vec<_> = answer
        .filter_results
        .iter()
        .map(|one| (one.error_code, one.matching_acls.len()))
        .collect();
    assert_eq!(told, [(0, 1), (0, 0), (42, 0)]);
    let answer = root.call(3, asked(Some("User:alice"))).await;
    assert_eq!(answer.resources.len(), 0);
}

/// On a cluster that is open to everybody nothing is defined by whoever comes first.
#[tokio::test(start_paused = true)]
async fn where_nobody_is_defined_clients_define_nothing() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    assert_eq!(
        allow(&mut client, vec![rule("User:alice", 3, "t")]).await,
        [54]
    );
    let set = ScramCredentialUpsertion::default()
        .with_name(words("alice"))
        .with_mechanism(1)
        .with_iterations(4096)
        .with_salt(Bytes::from_static(b"salt"))
        .with_salted_password(Bytes::from_static(&[0; 32]));
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![set]);
    assert_eq!(client.call(0, request).await.results[0].error_code, 54);
    create(&mut client, "t", 1).await;
    let mut sasl = rig.connect_to("kafka-sasl");
    assert_eq!(plain(&mut sasl, "alice").await, FAILED);
    sasl.expect_close().await;
}
