//! The read side of Iceberg's REST catalog, below `/iceberg`: engines attach to `http://HOST:PORT/iceberg`.
//!
//! There is one namespace, `weir`, and in it a table for each archived topic. Metadata comes inline, and its location with
//! it. Engines read the files from the bucket, with credentials of their own: the catalog has none to give away. Nothing
//! can be changed through it, and it says so to who tries.
//!
//! A table's `ETag` is its version, so an engine that asks again for what has not changed is answered with 304.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Seen;
use crate::broker::{LoadTableError, LoadedTable, Session, Unavailable};

/// The namespace of all tables.
const NAMESPACE: &str = "weir";

/// What engines need not try beside these.
const ENDPOINTS: [&str; 6] = [
    "GET /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
];

/// The routes of the catalog.
pub(super) fn router() -> Router<Seen> {
    let routes = Router::new()
        .route("/config", get(config))
        .route("/namespaces", get(namespaces))
        .route("/namespaces/{namespace}", get(namespace))
        .route("/namespaces/{namespace}/tables", get(tables))
        .route("/namespaces/{namespace}/tables/{table}", get(table))
        .fallback(unknown_path)
        .method_not_allowed_fallback(read_only);
    Router::new().nest("/iceberg/v1", routes)
}

/// What an engine may ask of a table.
#[derive(Deserialize)]
struct TableQuery {
    /// `refs`: only the snapshots that a branch or tag names. `all`, or nothing: all of them.
    snapshots: Option<String>,
}

/// An error, as the catalog's protocol has it.
struct CatalogError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl IntoResponse for CatalogError {
    fn into_response(self) -> Response {
        let body = json!({"error": {
            "message": self.message,
            "type": self.kind,
            "code": self.status.as_u16(),
        }});
        answer(self.status, body.to_string())
    }
}

impl From<LoadTableError> for CatalogError {
    fn from(error: LoadTableError) -> CatalogError {
        let (status, kind) = match &error {
            LoadTableError::Unknown { .. } => (StatusCode::NOT_FOUND, "NoSuchTableException"),
            LoadTableError::Denied(_) => (StatusCode::FORBIDDEN, "ForbiddenException"),
            LoadTableError::Unavailable(_) | LoadTableError::Unpublished { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailableException",
            ),
        };
        CatalogError {
            status,
            kind,
            message: error.to_string(),
        }
    }
}

impl From<Unavailable> for CatalogError {
    fn from(error: Unavailable) -> CatalogError {
        LoadTableError::from(error).into()
    }
}

fn answer(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn ok(body: &Value) -> Response {
    answer(StatusCode::OK, body.to_string())
}

/// Whoever asks is not known yet.
fn session() -> Session {
    Session::internal("iceberg")
}

fn check_namespace(name: &str) -> Result<(), CatalogError> {
    if name == NAMESPACE {
        return Ok(());
    }
    Err(CatalogError {
        status: StatusCode::NOT_FOUND,
        kind: "NoSuchNamespaceException",
        message: format!("there is no namespace '{name}': all tables are in '{NAMESPACE}'"),
    })
}

async fn config() -> Response {
    ok(&json!({"defaults": {}, "overrides": {}, "endpoints": ENDPOINTS}))
}

async fn namespaces(Query(query): Query<Parent>) -> Response {
    // The only namespace has none within.
    let namespaces = match query.parent {
        Some(parent) if !parent.is_empty() => vec![],
        _ => vec![[NAMESPACE]],
    };
    ok(&json!({"namespaces": namespaces, "next-page-token": null}))
}

/// Of what an engine lists the namespaces.
#[derive(Deserialize)]
struct Parent {
    parent: Option<String>,
}

async fn namespace(Path(namespace): Path<String>) -> Result<Response, CatalogError> {
    check_namespace(&namespace)?;
    Ok(ok(&json!({"namespace": [NAMESPACE], "properties": {}})))
}

async fn tables(
    State(seen): State<Seen>,
    Path(namespace): Path<String>,
) -> Result<Response, CatalogError> {
    check_namespace(&namespace)?;
    let names = seen.broker.table_names(&session()).await?;
    let identifiers = names
        .iter()
        .map(|name| json!({"namespace": [NAMESPACE], "name": name}));
    let identifiers: Vec<Value> = identifiers.collect();
    Ok(ok(
        &json!({"identifiers": identifiers, "next-page-token": null}),
    ))
}

async fn table(
    State(seen): State<Seen>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<TableQuery>,
    headers: HeaderMap,
) -> Result<Response, CatalogError> {
    check_namespace(&namespace)?;
    let refs_only = match query.snapshots.as_deref() {
        None | Some("" | "all") => false,
        Some("refs") => true,
        Some(other) => {
            return Err(CatalogError {
                status: StatusCode::BAD_REQUEST,
                kind: "BadRequestException",
                message: format!("snapshots={other}: it is `all` or `refs`"),
            });
        }
    };
    let LoadedTable {
        version,
        metadata,
        metadata_location,
    } = seen.broker.load_table(&session(), &name).await?;
    let which = if refs_only { "refs" } else { "all" };
    let etag = format!("\"{version}-{which}\"");
    let known = headers
        .get(header::IF_NONE_MATCH)
        .map(|known| known.as_bytes());
    if known == Some(etag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let broken = |error: serde_json::Error| CatalogError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        kind: "InternalServerError",
        message: format!("the metadata of table '{name}' cannot be read: {error}"),
    };
    let mut metadata: Value = serde_json::from_slice(&metadata).map_err(broken)?;
    if refs_only {
        let current = metadata["current-snapshot-id"].clone();
        if let Some(snapshots) = metadata["snapshots"].as_array_mut() {
            snapshots.retain(|snapshot| snapshot["snapshot-id"] == current);
        }
    }
    let body = json!({
        "metadata-location": metadata_location,
        "metadata": metadata,
        "config": {},
    });
    let mut response = ok(&body);
    if let Ok(etag) = etag.parse() {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

async fn unknown_path(uri: Uri) -> CatalogError {
    CatalogError {
        status: StatusCode::NOT_FOUND,
        kind: "NotFoundException",
        message: format!("{}: this catalog has no such path", uri.path()),
    }
}

async fn read_only() -> CatalogError {
    CatalogError {
        status: StatusCode::METHOD_NOT_ALLOWED,
        kind: "UnsupportedOperationException",
        message: "this catalog is read-only: tables are written by Weir alone".to_owned(),
    }
}
