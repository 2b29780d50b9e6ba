//! AlterUserScramCredentials and DescribeUserScramCredentials (KIP-554).

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};

use super::super::context::{Answer, Context};
use super::super::errors::{self, Fault};
use super::text;
use crate::broker::{AlterPassword, Secret};
use crate::state::access::{ScramMechanism, Verifier, Verifiers};
use crate::types::UserName;

fn mechanism(code: i8) -> Result<ScramMechanism, Fault> {
    match code {
        1 => Ok(ScramMechanism::Sha256),
        2 => Ok(ScramMechanism::Sha512),
        _ => {
            let code_of = ResponseError::UnsupportedSaslMechanism;
            Err(Fault::new(code_of, "Unknown SCRAM mechanism"))
        }
    }
}

fn code(mechanism: ScramMechanism) -> i8 {
    match mechanism {
        ScramMechanism::Sha256 => 1,
        ScramMechanism::Sha512 => 2,
    }
}

fn unacceptable(why: impl Into<String>) -> Fault {
    Fault::new(ResponseError::UnacceptableCredential, why)
}

fn user(name: &str) -> Result<UserName, Fault> {
    match name {
        "" => Err(unacceptable("Username must not be empty")),
        name => UserName::new(name).map_err(|why| unacceptable(why.to_string())),
    }
}

fn iterations(asked: i32) -> Result<u32, Fault> {
    let most = i32::try_from(Verifier::MAX_ITERATIONS).unwrap_or(i32::MAX);
    let asked = u32::try_from(asked.min(most.saturating_add(1))).unwrap_or(0);
    match asked {
        0..Verifier::MIN_ITERATIONS => Err(unacceptable("Too few iterations")),
        Verifier::MIN_ITERATIONS..=Verifier::MAX_ITERATIONS => Ok(asked),
        _ => Err(unacceptable("Too many iterations")),
    }
}

/// What is asked of each user, or why that cannot be.
type Asked = BTreeMap<String, Result<BTreeMap<ScramMechanism, AlterPassword>, Fault>>;

fn asked(request: &AlterUserScramCredentialsRequest) -> Asked {
    let mut asked = Asked::new();
    let mut note = |name: &str, alteration: Result<(ScramMechanism, AlterPassword), Fault>| {
        let of_user = asked
            .entry(name.to_owned())
            .or_insert_with(|| Ok(BTreeMap::new()));
        let Ok(alterations) = of_user else { return };
        let alteration = user(name).and(alteration);
        match alteration {
            Err(fault) => *of_user = Err(fault),
            Ok((mechanism, alteration)) => {
                if alterations.insert(mechanism, alteration).is_some() {
                    let why = "A user credential cannot be altered twice in the same request";
                    *of_user = Err(Fault::new(ResponseError::DuplicateResource, why));
                }
            }
        }
    };
    for deletion in &request.deletions {
        let of = mechanism(deletion.mechanism);
        note(
            &deletion.name,
            of.map(|mechanism| (mechanism, AlterPassword::Remove)),
        );
    }
    for set in &request.upsertions {
        let of = mechanism(set.mechanism).and_then(|mechanism| {
            let alteration = AlterPassword::Set {
                salt: set.salt.to_vec(),
                salted: Secret::new(set.salted_password.to_vec()),
                iterations: iterations(set.iterations)?,
            };
            Ok((mechanism, alteration))
        });
        note(&set.name, of);
    }
    asked
}

pub(super) async fn alter(
    context: &Context,
    request: AlterUserScramCredentialsRequest,
) -> Answer<AlterUserScramCredentialsResponse> {
    let asked = asked(&request);
    let users = asked.iter().filter_map(|(name, alterations)| {
        let alterations = alterations.as_ref().ok()?;
        Some((UserName::new(name).ok()?, alterations.clone()))
    });
    let altered = context
        .broker()
        .alter_passwords(&context.session, users.collect())
        .await;
    let results = asked.into_iter().map(|(name, alterations)| {
        let fault = match (&altered, alterations) {
            // Who may not alter is told nothing else.
            (Err(why), _) => Some(errors::users(why)),
            (Ok(_), Err(fault)) => Some(fault),
            (Ok(altered), Ok(_)) => {
                let outcome = altered.get(name.as_str());
                outcome
                    .and_then(|outcome| outcome.as_ref().err())
                    .map(errors::access)
            }
        };
        let (code, message) = fault.map_or((0, None), |fault| context.fault(&fault));
        AlterUserScramCredentialsResult::default()
            .with_user(text(name))
            .with_error_code(code)
            .with_error_message(message)
    });
    Ok(AlterUserScramCredentialsResponse::default().with_results(results.collect()))
}

pub(super) async fn describe(
    context: &Context,
    request: DescribeUserScramCredentialsRequest,
) -> Answer<DescribeUserScramCredentialsResponse> {
    let response = DescribeUserScramCredentialsResponse::default();
    let state = match context.broker().users(&context.session).await {
        Ok(state) => state,
        Err(why) => {
            let (code, message) = context.fault(&errors::users(&why));
            return Ok(response.with_error_code(code).with_error_message(message));
        }
    };
    let access = state.access();
    let described = |name: &str, verifiers: &Verifiers| {
        let infos = verifiers.iter().map(|(mechanism, verifier)| {
            CredentialInfo::default()
                .with_mechanism(code(*mechanism))
                .with_iterations(i32::try_from(verifier.iterations).unwrap_or(i32::MAX))
        });
        DescribeUserScramCredentialsResult::default()
            .with_user(text(name))
            .with_credential_infos(infos.collect())
    };
    // None, and no users, stand for all.
    let wanted = request.users.filter(|users| !users.is_empty());
    let Some(wanted) = wanted else {
        let all = access
            .users()
            .filter(|(_, user)| !user.verifiers.is_empty());
        let results = all.map(|(name, user)| described(name.as_str(), &user.verifiers));
        return Ok(response.with_results(results.collect()));
    };
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for asked in &wanted {
        if !once.insert(asked.name.as_str()) {
            twice.insert(asked.name.as_str());
        }
    }
    let results = once.iter().map(|name| {
        let fault = if twice.contains(name) {
            let why =
                "Cannot describe SCRAM credentials for the same user twice in a single request: ";
            Fault::new(ResponseError::DuplicateResource, format!("{why}{name}"))
        } else {
            match access.user(name).filter(|user| !user.verifiers.is_empty()) {
                Some(user) => return described(name, &user.verifiers),
                None => {
                    let why = "Attempt to describe a user credential that does not exist: ";
                    Fault::new(ResponseError::ResourceNotFound, format!("{why}{name}"))
                }
            }
        };
        let (code, message) = context.fault(&fault);
        DescribeUserScramCredentialsResult::default()
            .with_user(text(*name))
            .with_error_code(code)
            .with_error_message(message)
    });
    Ok(response.with_results(results.collect()))
}
