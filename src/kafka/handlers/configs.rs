//! DescribeConfigs (KIP-133, KIP-226, KIP-569), IncrementalAlterConfigs (KIP-339) and AlterConfigs.

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_response as incremental;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{
    ConfigEdit, ConfigEntry, ConfigResource, ConfigSource, ConfigType, TopicError,
};

use super::super::context::{Answer, Context};
use super::super::errors::{self, Fault};
use super::items::{each, occurs_twice, repeated};
use super::text;

/// Kafka's `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn invalid(what: impl Into<String>) -> Fault {
    Fault::new(ResponseError::InvalidRequest, what)
}

/// The most resources that one request describes.
const MAX_DESCRIBED: usize = 10_000;

/// About how many bytes the settings of one resource take while they are made into an answer.
const DESCRIBED_SIZE: usize = 12 << 10;

fn resource(kind: i8, name: &str) -> Result<ConfigResource, Fault> {
    match (kind, name) {
        (TOPIC, name) => Ok(ConfigResource::Topic(name.to_owned())),
        (BROKER, "") => Ok(ConfigResource::Cluster),
        (BROKER, name) => match name.parse() {
            Ok(id) => Ok(ConfigResource::Node(id)),
            Err(_) => Err(invalid(format!("'{name}' is not the id of a broker"))),
        },
        (kind, _) => Err(invalid(format!("resource type {kind} has no settings"))),
    }
}

/// Kafka's number of a source.
pub(super) fn source(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => 1,
        ConfigSource::Node => 2,
        ConfigSource::Cluster => 3,
        ConfigSource::Static => 4,
        ConfigSource::Default => 5,
    }
}

/// Kafka's number of a type.
fn kind(kind: ConfigType) -> i8 {
    match kind {
        ConfigType::Boolean => 1,
        ConfigType::String => 2,
        ConfigType::Int => 3,
        ConfigType::Short => 4,
        ConfigType::Long => 5,
        ConfigType::Double => 6,
        ConfigType::List => 7,
        ConfigType::Class => 8,
        ConfigType::Password => 9,
    }
}

pub(super) async fn describe(
    context: &Context,
    request: DescribeConfigsRequest,
) -> Answer<DescribeConfigsResponse> {
    let named = request.resources.iter();
    let doubled = repeated(named.map(|asked| (asked.resource_type, asked.resource_name.clone())));
    let mut accepted = 0;
    let wanted = request.resources.iter().map(|asked| {
        if doubled.contains(&(asked.resource_type, asked.resource_name.clone())) {
            return Err(occurs_twice("the resource"));
        }
        if accepted == MAX_DESCRIBED {
            let what = format!("a request describes at most {MAX_DESCRIBED} resources");
            return Err(invalid(what));
        }
        let resource = resource(asked.resource_type, &asked.resource_name)?;
        accepted += 1;
        // Null or none at all stands for all.
        let keys = asked.configuration_keys.as_ref();
        let keys = keys.filter(|keys| !keys.is_empty());
        let names = keys.map(|keys| keys.iter().map(StrBytes::to_string).collect());
        Ok((resource, names))
    });
    let described = each(
        wanted.collect(),
        async |wanted| {
            context.reserve(wanted.len() * DESCRIBED_SIZE).await;
            let broker = context.broker();
            let described = broker.describe_all_configs(&context.session, &wanted);
            described.await.map_err(|why| errors::admin(&why))
        },
        errors::topic,
    )
    .await;
    let mut results = Vec::with_capacity(described.len());
    for (asked, entries) in request.resources.into_iter().zip(described) {
        let result = DescribeConfigsResult::default()
            .with_error_message(None)
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name);
        results.push(match entries {
            Ok(entries) => {
                let configs = entries.into_iter().map(|entry| {
                    shown(
                        entry,
                        request.include_synonyms,
                        request.include_documentation,
                    )
                });
                result.with_configs(configs.collect())
            }
            Err(fault) => {
                let (code, message) = context.fault(&fault);
                result.with_error_code(code).with_error_message(message)
            }
        });
    }
    Ok(DescribeConfigsResponse::default().with_results(results))
}

fn shown(entry: ConfigEntry, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let synonyms = entry.synonyms.into_iter().filter(|_| synonyms);
    let synonyms = synonyms.map(|(name, value, of)| {
        DescribeConfigsSynonym::default()
            .with_name(text(name))
            .with_value(value.map(text))
            .with_source(source(of))
    });
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(entry.value.map(text))
        .with_read_only(entry.read_only)
        .with_config_source(source(entry.source))
        .with_is_sensitive(entry.sensitive)
        .with_synonyms(synonyms.collect())
        .with_config_type(kind(entry.kind))
        .with_documentation(documentation.then(|| text(entry.documentation)))
}

pub(super) async fn incremental_alter(
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> Answer<IncrementalAlterConfigsResponse> {
    let resources = request.resources.into_iter();
    let resources =
        resources.map(|asked| (asked.resource_type, asked.resource_name, asked.configs));
    let alter = |resource, edits| {
        let (broker, session) = (context.broker(), &context.session);
        async move {
            broker
                .alter_configs(session, &resource, edits, request.validate_only)
                .await
        }
        .boxed()
    };
    let altered = alter_each(context, resources.collect(), edits, alter).await;
    let responses = altered.into_iter().map(|altered| {
        incremental::AlterConfigsResourceResponse::default()
            .with_error_code(altered.code)
            .with_error_message(altered.message)
            .with_resource_type(altered.kind)
            .with_resource_name(altered.name)
    });
    Ok(IncrementalAlterConfigsResponse::default().with_responses(responses.collect()))
}

fn edits(
    configs: Vec<kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig>,
) -> Result<BTreeMap<String, ConfigEdit>, Fault> {
    let mut edits = BTreeMap::new();
    for config in configs {
        let name = config.name.to_string();
        let value = config.value.map(|value| value.to_string());
        let edit = match (config.config_operation, value) {
            (1, _) => ConfigEdit::Delete,
            (0, Some(value)) => ConfigEdit::Set(value),
            (2, Some(value)) => ConfigEdit::Append(value),
            (3, Some(value)) => ConfigEdit::Subtract(value),
            (0 | 2 | 3, None) => return Err(invalid(format!("{name} has no value"))),
            (other, _) => return Err(invalid(format!("operation {other} is unknown"))),
        };
        if edits.insert(name.clone(), edit).is_some() {
            return Err(occurs_twice(&name));
        }
    }
    Ok(edits)
}

pub(super) async fn alter(
    context: &Context,
    request: AlterConfigsRequest,
) -> Answer<AlterConfigsResponse> {
    let resources = request.resources.into_iter();
    let resources =
        resources.map(|asked| (asked.resource_type, asked.resource_name, asked.configs));
    let alter = |resource, values| {
        let (broker, session) = (context.broker(), &context.session);
        async move {
            broker
                .replace_configs(session, &resource, values, request.validate_only)
                .await
        }
        .boxed()
    };
    let altered = alter_each(context, resources.collect(), values, alter).await;
    let responses = altered.into_iter().map(|altered| {
        AlterConfigsResourceResponse::default()
            .with_error_code(altered.code)
            .with_error_message(altered.message)
            .with_resource_type(altered.kind)
            .with_resource_name(altered.name)
    });
    Ok(AlterConfigsResponse::default().with_responses(responses.collect()))
}

/// Values, of which none may be null: what is to have its default is left out.
fn values(
    configs: Vec<kafka_protocol::messages::alter_configs_request::AlterableConfig>,
) -> Result<BTreeMap<String, String>, Fault> {
    let mut values = BTreeMap::new();
    for config in configs {
        let name = config.name.to_string();
        let Some(value) = config.value else {
            return Err(invalid(format!("{name} has no value")));
        };
        values.insert(name, value.to_string());
    }
    Ok(values)
}

/// What became of the settings of a resource.
struct Altered {
    kind: i8,
    name: StrBytes,
    code: i16,
    message: Option<StrBytes>,
}

/// Alters the settings of one resource after the other: `read` makes changes of what the request says, `alter` carries
/// them out.
async fn alter_each<'a, C, T>(
    context: &'a Context,
    resources: Vec<(i8, StrBytes, C)>,
    read: impl Fn(C) -> Result<T, Fault>,
    alter: impl Fn(ConfigResource, T) -> BoxFuture<'a, Result<(), TopicError>>,
) -> Vec<Altered> {
    let named = resources
        .iter()
        .map(|(kind, name, _)| (*kind, name.clone()));
    let doubled = repeated(named);
    let mut altered = Vec::with_capacity(resources.len());
    for (kind, name, configs) in resources {
        let wanted = if doubled.contains(&(kind, name.clone())) {
            Err(occurs_twice("the resource"))
        } else {
            resource(kind, &name).and_then(|resource| Ok((resource, read(configs)?)))
        };
        let outcome = match wanted {
            Ok((resource, changes)) => {
                let outcome = alter(resource, changes).await;
                outcome.map_err(|error| errors::topic(&error))
            }
            Err(fault) => Err(fault),
        };
        let (code, message) = match outcome {
            Ok(()) => (0, None),
            Err(fault) => context.fault(&fault),
        };
        altered.push(Altered {
            kind,
            name,
            code,
            message,
        });
    }
    altered
}
