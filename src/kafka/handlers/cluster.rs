//! FindCoordinator and DescribeCluster.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::context::{Answer, Context};
use super::super::errors::{self, Fault};
use super::metadata::{cluster, controller};
use super::{allowed, text};
use crate::broker::{NodeView, Resource};

/// Kafka's `CoordinatorType.GROUP`; 1 is of transactions and 2 of share groups.
const OF_GROUPS: i8 = 0;

/// Kafka's endpoint types (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn find_coordinator(
    context: &Context,
    request: FindCoordinatorRequest,
) -> Answer<FindCoordinatorResponse> {
    let keys = if context.version >= 4 {
        request.coordinator_keys
    } else {
        vec![request.key]
    };
    let groups: Vec<&str> = keys.iter().map(StrBytes::as_str).collect();
    let found = async {
        if request.key_type == OF_GROUPS {
            let broker = context.broker();
            let found = broker.coordinators(&context.session, context.client.listener(), &groups);
            return found.await.map_err(|why| errors::find_coordinator(&why));
        }
        // A retriable code would keep Java's transactional producers asking for ever.
        let what = match request.key_type {
            1 => "transactions are not supported yet".to_owned(),
            2 => "share groups are not supported yet".to_owned(),
            other => format!("coordinator type {other} is unknown"),
        };
        Err(Fault::new(ResponseError::InvalidRequest, what))
    };
    let (found, ()) = futures::join!(found, context.keep_turn());
    let found: Vec<Result<NodeView, Fault>> = match found {
        Ok(found) => {
            let found = found.into_iter();
            found
                .map(|node| node.map_err(|why| errors::denied(&why)))
                .collect()
        }
        Err(fault) => keys.iter().map(|_| Err(fault.clone())).collect(),
    };
    let mut coordinators = Vec::with_capacity(keys.len());
    for (key, found) in keys.into_iter().zip(found) {
        coordinators.push(match found {
            Ok(node) => Coordinator::default()
                .with_node_id(BrokerId(node.id.0))
                .with_host(text(&*node.host))
                .with_port(i32::from(node.port))
                .with_error_message(Some(StrBytes::from_static_str("NONE")))
                .with_key(key),
            Err(fault) => {
                let (code, message) = context.fault(&fault);
                Coordinator::default()
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(code)
                    .with_error_message(message)
                    .with_key(key)
            }
        });
    }
    if context.version >= 4 {
        return Ok(FindCoordinatorResponse::default().with_coordinators(coordinators));
    }
    let one = coordinators.pop().unwrap_or_default();
    Ok(FindCoordinatorResponse::default()
        .with_error_code(one.error_code)
        .with_error_message(one.error_message)
        .with_node_id(one.node_id)
        .with_host(one.host)
        .with_port(one.port))
}

pub(super) async fn describe(
    context: &Context,
    request: DescribeClusterRequest,
) -> Answer<DescribeClusterResponse> {
    let endpoint = if context.version >= 1 {
        request.endpoint_type
    } else {
        BROKERS
    };
    if endpoint != BROKERS {
        let fault = if endpoint == CONTROLLERS {
            let what = "this is a broker, and there are no controllers";
            Fault::new(ResponseError::MismatchedEndpointType, what)
        } else {
            let what = format!("endpoint type {endpoint} is unknown");
            Fault::new(ResponseError::UnsupportedEndpointType, what)
        };
        let (code, message) = context.fault(&fault);
        return Ok(DescribeClusterResponse::default()
            .with_error_code(code)
            .with_error_message(message));
    }
    let cluster = cluster(context).await?;
    let brokers = cluster.nodes.iter().map(|node| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(node.id.0))
            .with_host(text(&*node.host))
            .with_port(i32::from(node.port))
            .with_rack(node.rack.as_deref().map(text))
    });
    let operations = if request.include_cluster_authorized_operations {
        allowed::on(context, &Resource::Cluster)
    } else {
        allowed::NOT_ASKED
    };
    Ok(DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(text(&*cluster.cluster_id))
        .with_controller_id(BrokerId(controller(&cluster)))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations))
}
