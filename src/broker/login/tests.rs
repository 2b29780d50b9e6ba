//! Who logs in, who does not, and how late failures are answered; on simulated time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;

use super::credentials::Algorithms;
use super::*;
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::state::access::{AccessAction, AccessError};
use crate::store::{Store, StoreUrl};
use crate::types::Timestamp;

use super::super::UsersError;

async fn node(store: &Store, seed: u64) -> Node {
    let env = Env::simulated(seed, Timestamp(1_700_000_000_000));
    let options = NodeOptions::new(StoreUrl::memory(), env);
    let metrics = NodeMetrics::default();
    Node::start(store.clone(), options, &metrics).await.unwrap()
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

async fn create(node: &Node, name: &str, password: &str, superuser: bool) {
    let verifiers = node
        .broker()
        .verifiers(&Secret::new(password))
        .await
        .unwrap();
    let user = user(name);
    change(
        node,
        AccessAction::CreateUser {
            user,
            superuser,
            verifiers,
        },
    )
    .await
    .unwrap();
}

async fn change(node: &Node, action: AccessAction) -> Result<(), UsersError> {
    let session = Session::internal("test");
    node.broker().change_users(&session, action).await
}

fn from(address: &str) -> Session {
    Session::anonymous(Some(format!("{address}:1234").parse().unwrap()))
}

async fn log_in(node: &Node, name: &str, password: &str) -> Result<String, LoginError> {
    let session = from("10.0.0.1");
    let identity = node
        .broker()
        .log_in(&session, name, Secret::new(password))
        .await;
    identity.map(|identity| identity.principal)
}

/// Begins to log in with SCRAM as a client does. Returns its proof as well, and how the node proves itself.
async fn begin(
    node: &Node,
    mechanism: ScramMechanism,
    name: &str,
    password: &str,
) -> Result<(ScramLogin, String, String), LoginError> {
    let (broker, session) = (node.broker(), from("10.0.0.1"));
    let bare = format!("n={name},r=abc");
    let login = broker
        .begin_scram(&session, mechanism, format!("n,,{bare}").as_bytes())
        .await?;
    let challenge = login.challenge().to_owned();
    let field = |name: &str| {
        let mut fields = challenge.split(',');
        let field = fields.find_map(|field| field.strip_prefix(name));
        field.unwrap().to_owned()
    };
    let (nonce, salt) = (field("r="), STANDARD.decode(field("s=")).unwrap());
    assert!(nonce.starts_with("abc") && nonce.len() > 20);
    let without_proof = format!("c=biws,r={nonce}");
    let signed = format!("{bare},{challenge},{without_proof}");
    let iterations = field("i=").parse().unwrap();
    let verifier = hash(&Secret::new(password), mechanism, &salt, iterations);
    let algorithms = Algorithms::of(mechanism);
    let signature = algorithms.hmac(verifier.stored_key(), signed.as_bytes());
    let client_key = client_key(password, mechanism, &salt, iterations);
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature.as_ref())
        .map(|(a, b)| a ^ b)
        .collect();
    let message = format!("{without_proof},p={}", STANDARD.encode(proof));
    let server = algorithms.hmac(verifier.server_key(), signed.as_bytes());
    Ok((login, message, format!("v={}", STANDARD.encode(server))))
}

/// Logs in with SCRAM.
async fn prove(
    node: &Node,
    mechanism: ScramMechanism,
    name: &str,
    password: &str,
) -> Result<String, LoginError> {
    let (login, message, expected) = begin(node, mechanism, name, password).await?;
    let (broker, session) = (node.broker(), from("10.0.0.1"));
    let finished = broker.finish_scram(&session, login, message.as_bytes());
    let (told, identity) = finished.await?;
    assert_eq!(told, expected);
    Ok(identity.principal)
}

fn client_key(password: &str, mechanism: ScramMechanism, salt: &[u8], iterations: u32) -> Vec<u8> {
    use aws_lc_rs::pbkdf2;
    let algorithm = match mechanism {
        ScramMechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        ScramMechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
    };
    let mut salted = vec![0; mechanism.hash_len()];
    let rounds = std::num::NonZeroU32::new(iterations).unwrap();
    pbkdf2::derive(algorithm, rounds, salt, password.as_bytes(), &mut salted);
    Algorithms::of(mechanism)
        .hmac(&salted, b"Client Key")
        .as_ref()
        .to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_user_logs_in_with_its_password_on_every_node_and_with_no_other() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    create(&a, "root", "pencil", true).await;
    // The other node has not heard of it.
    assert_eq!(log_in(&b, "root", "pencil").await.unwrap(), "User:root");
    assert_eq!(log_in(&b, "root", "pencil ").await, Err(LoginError::Wrong));
    assert_eq!(log_in(&b, "toor", "pencil").await, Err(LoginError::Wrong));
    assert_eq!(log_in(&b, "root", "").await, Err(LoginError::Wrong));
    for mechanism in ScramMechanism::ALL {
        let proven = prove(&b, mechanism, "root", "pencil").await;
        assert_eq!(proven.as_deref(), Ok("User:root"));
        for (name, password) in [("root", "pencils"), ("toor", "pencil")] {
            let proven = prove(&b, mechanism, name, password).await;
            assert_eq!(proven, Err(LoginError::Wrong), "{name} {password}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_password_that_was_changed_or_whose_user_is_disabled_is_wrong_at_once() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    create(&a, "root", "pencil", true).await;
    create(&a, "alice", "first", false).await;
    // What was right is remembered.
    for _ in 0..2 {
        log_in(&b, "alice", "first").await.unwrap();
    }
    let set = a.broker().verifiers(&Secret::new("second")).await.unwrap();
    let alter = |set| AccessAction::AlterVerifiers {
        user: user("alice"),
        set,
        remove: std::collections::BTreeSet::new(),
    };
    change(&a, alter(set)).await.unwrap();
    assert_eq!(log_in(&b, "alice", "first").await, Err(LoginError::Wrong));
    log_in(&b, "alice", "second").await.unwrap();
    let disable = AccessAction::AlterUser {
        user: user("alice"),
        superuser: None,
        disabled: Some(true),
    };
    change(&a, disable).await.unwrap();
    assert_eq!(log_in(&b, "alice", "second").await, Err(LoginError::Wrong));
    let proven = prove(&b, ScramMechanism::Sha512, "alice", "second").await;
    assert_eq!(proven, Err(LoginError::Wrong));
}

#[tokio::test(start_paused = true)]
async fn the_first_user_has_to_be_a_superuser() {
    let node = node(&Store::memory(), 1).await;
    let alice = AccessAction::CreateUser {
        user: user("alice"),
        superuser: false,
        verifiers: Verifiers::new(),
    };
    let refused = change(&node, alice).await;
    assert_eq!(
        refused,
        Err(UsersError::Refused(AccessError::NoAdministrator))
    );
}

/// An unknown user is challenged like a known one: always with the same salt, and another one for each name.
#[tokio::test(start_paused = true)]
async fn a_challenge_does_not_tell_whether_there_is_such_a_user() {
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pencil", true).await;
    let challenge = async |name: &str| {
        let message = format!("n,,n={name},r=abc");
        let session = from("10.0.0.1");
        let mechanism = ScramMechanism::Sha256;
        let login = node
            .broker()
            .begin_scram(&session, mechanism, message.as_bytes())
            .await;
        let challenge = login.unwrap().challenge().to_owned();
        let (_, rest) = challenge.split_once(",s=").unwrap();
        rest.to_owned()
    };
    let (known, unknown) = (challenge("root").await, challenge("nobody").await);
    assert_eq!(unknown, challenge("nobody").await);
    assert_ne!(unknown, challenge("somebody").await);
    assert_eq!(known.len(), unknown.len());
    assert_eq!(
        known.split_once(",i="),
        known
            .split_once(",i=")
            .filter(|(_, i)| unknown.ends_with(i))
    );
}

#[tokio::test(start_paused = true)]
async fn failures_are_answered_later_and_later_and_do_not_delay_others() {
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pencil", true).await;
    let took = async |address: &str, password: &str| {
        let began = Instant::now();
        let session = from(address);
        let _ = node
            .broker()
            .log_in(&session, "root", Secret::new(password))
            .await;
        began.elapsed()
    };
    let mut last = Duration::ZERO;
    for _ in 0..6 {
        let now = took("10.0.0.1", "wrong").await;
        assert!(
            now >= FIRST_DELAY / 2 && now > last / 3,
            "{now:?} after {last:?}"
        );
        last = now;
    }
    assert!(last >= Duration::from_secs(1), "{last:?}");
    // Who is right is not late, and neither is another address.
    assert!(took("10.0.0.1", "pencil").await < FIRST_DELAY / 2);
    assert!(took("10.0.0.2", "wrong").await < FIRST_DELAY * 2);
    sleep(FORGIVEN_AFTER * 20).await;
    assert!(took("10.0.0.1", "wrong").await < FIRST_DELAY * 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_guesses_few_passwords_however_many_connections_it_has() {
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pencil", true).await;
    let guess = async |n: u32| {
        let session = from("10.0.0.1");
        let guess = Secret::new(format!("guess {n}"));
        node.broker().log_in(&session, "root", guess).await
    };
    let outcomes = futures::future::join_all((0..1000).map(guess)).await;
    let count = |of| {
        outcomes
            .iter()
            .filter(|outcome| **outcome == Err(of))
            .count()
    };
    let (judged, sent_away) = (count(LoginError::Wrong), count(LoginError::TooMany));
    assert_eq!(judged + sent_away, 1000);
    assert!(
        (SLOTS..SLOTS * 6).contains(&judged),
        "{judged} of 1000 guesses were judged"
    );
}

/// It hangs up as soon as it is not told at once that it is right.
#[tokio::test(start_paused = true)]
async fn who_hangs_up_guesses_no_more_passwords() {
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pencil", true).await;
    let judged = || {
        let logins = &node.broker().inner.logins;
        let address = logins.address(from("10.0.0.1").remote).unwrap();
        SLOTS - address.slots.available_permits()
    };
    let mut given_up = 0;
    for n in 0..1000 {
        let session = from("10.0.0.1");
        let guess = Secret::new(format!("guess {n}"));
        let login = node.broker().log_in(&session, "root", guess);
        let told = timeout(Duration::from_millis(1), login).await;
        given_up += usize::from(told.is_err());
    }
    assert_eq!(given_up, 1000);
    assert_eq!(judged(), SLOTS, "those that were given up keep their slots");
    // After the second that this took, those who guess still wait.
    let waits = from("10.0.0.1");
    let login = node.broker().log_in(&waits, "root", Secret::new("pencil"));
    assert!(timeout(Duration::from_millis(100), login).await.is_err());
    let other = from("10.0.0.2");
    let login = node.broker().log_in(&other, "root", Secret::new("pencil"));
    assert!(login.await.is_ok());
}

/// As behind a load balancer, after a node was started again.
#[tokio::test(start_paused = true)]
async fn many_clients_of_one_address_log_in_at_once() {
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pencil", true).await;
    let enter = async || log_in(&node, "root", "pencil").await;
    let outcomes = futures::future::join_all((0..1000).map(|_| enter())).await;
    assert!(outcomes.iter().all(Result::is_ok));
}

#[test]
fn the_delay_has_an_end() {
    let mut failed = Failed::default();
    let now = Instant::now();
    let delays: Vec<Duration> = (0..100).map(|_| failed.note(now)).collect();
    assert_eq!(delays[..3], [FIRST_DELAY, FIRST_DELAY * 2, FIRST_DELAY * 4]);
    assert_eq!(delays[99], MAX_DELAY);
    // However many there were, they are forgotten in a minute.
    let later = now + FORGIVEN_AFTER * (MAX_COUNT + 1);
    assert_eq!(failed.note(later), FIRST_DELAY);
}

#[test]
fn what_was_right_is_forgotten() {
    let logins = Logins::new(&Env::simulated(1, Timestamp(0)));
    for n in 0..MAX_REMEMBERED * 3 {
        logins.remember(n.to_be_bytes().to_vec());
    }
    assert!(logins.right.lock().unwrap().len() <= MAX_REMEMBERED);
    let again = Logins::new(&Env::simulated(2, Timestamp(0)));
    assert_ne!(
        logins.keyed(b"x", &[b"ab", b"c"]),
        again.keyed(b"x", &[b"ab", b"c"])
    );
    assert_ne!(
        logins.keyed(b"x", &[b"ab", b"c"]),
        logins.keyed(b"x", &[b"a", b"bc"])
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_has_many_addresses_delays_others_by_one_hash_of_each() {
    const ADDRESSES_OF_ONE: usize = 100;
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pw-of-root", true).await;
    let broker = node.broker();
    // Nobody knows which places of the table an address gets.
    let logins = &broker.inner.logins;
    let place = |session: &Session| logins.address(session.remote).map(Arc::as_ptr);
    let others = from("10.0.0.1");
    let mut taken = vec![place(&others)];
    let mut sessions = Vec::new();
    for n in 0.. {
        let session = from(&format!("10.1.{}.{}", n / 256, n % 256));
        if !taken.contains(&place(&session)) {
            taken.push(place(&session));
            sessions.push(session);
        }
        if sessions.len() == ADDRESSES_OF_ONE {
            break;
        }
    }
    for _ in 0..SLOTS {
        for session in &sessions {
            let guess = broker.log_in(session, "root", Secret::new("a guess"));
            // It hangs up at once.
            assert!(guess.now_or_never().is_none());
        }
    }
    // Not asleep: time stands still while passwords are hashed.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(log_in(&node, "root", "pw-of-root").await.is_ok());
    let judged = |session: &Session| {
        let address = logins.address(session.remote).unwrap();
        let failed = address.failed.lock().unwrap();
        failed.count
    };
    let judged: u32 = sessions.iter().map(judged).sum();
    let fair = ADDRESSES_OF_ONE as u32 * 2;
    assert!(judged <= fair, "{judged} guesses were judged before it");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_too_long_is_sent_away_without_a_judgement() {
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pw-of-root", true).await;
    let logins = &node.broker().inner.logins;
    let all = logins.hashing.acquire_many(HASHING as u32).await.unwrap();
    let began = Instant::now();
    let told = log_in(&node, "root", "pw-of-root").await;
    assert_eq!(told, Err(LoginError::TooMany));
    assert_eq!(began.elapsed().as_secs(), MAX_WAIT.as_secs());
    drop(all);
    assert!(log_in(&node, "root", "pw-of-root").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_password_that_nobody_can_have_is_wrong_late_and_is_not_hashed() {
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pw-of-root", true).await;
    let logins = &node.broker().inner.logins;
    // It would wait for a turn.
    let _all = logins.hashing.acquire_many(HASHING as u32).await.unwrap();
    let began = Instant::now();
    let long = "x".repeat(MAX_PASSWORD + 1);
    assert_eq!(log_in(&node, "root", &long).await, Err(LoginError::Wrong));
    assert!(began.elapsed() >= FIRST_DELAY / 2);
    assert_eq!(log_in(&node, &long, "pw").await, Err(LoginError::Wrong));
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_is_kept_does_not_keep_an_old_password() {
    let node = node(&Store::memory(), 1).await;
    create(&node, "root", "pw-of-root", true).await;
    create(&node, "alice", "old", false).await;
    let mechanism = ScramMechanism::Sha256;
    let begun = begin(&node, mechanism, "alice", "old").await.unwrap();
    let broker = node.broker();
    let set = broker.verifiers(&Secret::new("new")).await.unwrap();
    let alter = AccessAction::AlterVerifiers {
        user: user("alice"),
        set,
        remove: std::collections::BTreeSet::new(),
    };
    change(&node, alter).await.unwrap();
    let (login, message, _) = begun;
    let session = from("10.0.0.1");
    let finished = broker.finish_scram(&session, login, message.as_bytes());
    assert_eq!(finished.await.unwrap_err(), LoginError::Wrong);
    assert!(prove(&node, mechanism, "alice", "new").await.is_ok());
}
