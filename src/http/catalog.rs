//! The read side of Iceberg's REST catalog, below `/iceberg`: engines attach to `http://HOST:PORT/iceberg`.
//!
//! There is one namespace, `weir`, and in it a table for each archived topic. Metadata comes inline, and its location
//! with it. An engine that asks for it (`X-Iceberg-Access-Delegation: vended-credentials`) is given credentials for the
//! files of the table, as the node's settings say ([`CatalogAccess`]); if it is the nodes that serve the files, the
//! paths in what it is given are those by which they do. Nothing can be changed here, and the catalog says so to who
//! tries.
//!
//! A table's `ETag` is its version, so an engine that asks again for what has not changed is answered with 304; but not
//! with credentials that are half used up.
//!
//! # Who asks
//!
//! Nobody in particular, until users are defined: then a client logs in with OAuth's client credentials, which are the
//! name and the password of its user, and is given a token that every node knows; or it sends both with each request
//! (`Authorization: Basic`). What it may see is judged as for the topics themselves. None of it is encrypted here: see
//! docs/archive.md.

use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use url::form_urlencoded;

use super::Seen;
use super::caller::{Unknown, basic, by_password, caller, remote_of};
use crate::broker::{
    GrantError, LoadTableError, LoadedTable, Secret, Session, Unavailable, Vended, VendedAccess,
};
use crate::config::CatalogAccess;

/// The namespace of all tables.
const NAMESPACE: &str = "weir";

/// What engines need not try beside these.
const ENDPOINTS: [&str; 7] = [
    "GET /v1/{prefix}/namespaces",
    "GET /v1/{prefix}/namespaces/{namespace}",
    "HEAD /v1/{prefix}/namespaces/{namespace}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
    "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials",
];

/// By which an engine says how it wants to come to the files.
const DELEGATION: &str = "x-iceberg-access-delegation";

/// The most names in an answer.
const MAX_PAGE: usize = 1000;

/// The largest body of a login, and how long it may take to arrive.
const MAX_LOGIN: usize = 16 * 1024;
const LOGIN_WITHIN: Duration = Duration::from_secs(5);

/// The region that stands for "the endpoint says where".
const ANY_REGION: &str = "us-east-1";

/// The routes of the catalog.
pub(super) fn router() -> Router<Seen> {
    let table = "/namespaces/{namespace}/tables/{table}";
    let routes = Router::new()
        .route("/config", get(config))
        .route("/oauth/tokens", post(log_in))
        .route("/namespaces", get(namespaces))
        .route("/namespaces/{namespace}", get(namespace))
        .route("/namespaces/{namespace}/tables", get(tables))
        .route(table, get(load_table).head(find_table))
        .route(&format!("{table}/credentials"), get(credentials))
        .fallback(unknown_path)
        .method_not_allowed_fallback(read_only);
    Router::new().nest("/iceberg/v1", routes)
}

/// An error, as the catalog's protocol has it.
struct CatalogError {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl CatalogError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> CatalogError {
        CatalogError {
            status,
            kind,
            message: message.into(),
        }
    }

    fn bad_request(message: impl Into<String>) -> CatalogError {
        CatalogError::new(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    fn not_logged_in(message: impl Into<String>) -> CatalogError {
        CatalogError::new(StatusCode::UNAUTHORIZED, "NotAuthorizedException", message)
    }
}

impl IntoResponse for CatalogError {
    fn into_response(self) -> Response {
        let body = json!({"error": {
            "message": self.message,
            "type": self.kind,
            "code": self.status.as_u16(),
        }});
        let mut answer = answer(self.status, body.to_string());
        if self.status == StatusCode::UNAUTHORIZED {
            let how = HeaderValue::from_static("Bearer realm=\"weir\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, how);
        }
        answer
    }
}

impl From<LoadTableError> for CatalogError {
    fn from(error: LoadTableError) -> CatalogError {
        let (status, kind) = match &error {
            LoadTableError::Unknown { .. } => (StatusCode::NOT_FOUND, "NoSuchTableException"),
            LoadTableError::Denied(_) => (StatusCode::FORBIDDEN, "ForbiddenException"),
            LoadTableError::Unavailable(_)
            | LoadTableError::Unpublished { .. }
            | LoadTableError::Grant(_) => UNAVAILABLE,
        };
        CatalogError::new(status, kind, error.to_string())
    }
}

const UNAVAILABLE: (StatusCode, &str) = (
    StatusCode::SERVICE_UNAVAILABLE,
    "ServiceUnavailableException",
);

impl From<Unavailable> for CatalogError {
    fn from(error: Unavailable) -> CatalogError {
        LoadTableError::from(error).into()
    }
}

impl From<GrantError> for CatalogError {
    fn from(error: GrantError) -> CatalogError {
        match error {
            GrantError::Bad(bad) => CatalogError::not_logged_in(bad.to_string()),
            error => CatalogError::new(UNAVAILABLE.0, UNAVAILABLE.1, error.to_string()),
        }
    }
}

fn answer(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn ok(body: &Value) -> Response {
    answer(StatusCode::OK, body.to_string())
}

/// Whose session a request is of.
async fn session(seen: &Seen, head: &Parts) -> Result<Session, CatalogError> {
    is_on(seen)?;
    Ok(caller(seen, head).await?)
}

impl From<Unknown> for CatalogError {
    fn from(unknown: Unknown) -> CatalogError {
        let (status, why) = unknown.told();
        let kind = match unknown {
            Unknown::Malformed(_) | Unknown::Wrong(_) => "NotAuthorizedException",
            Unknown::TooMany(_) => "TooManyRequestsException",
            Unknown::Unavailable(_) => UNAVAILABLE.1,
        };
        CatalogError::new(status, kind, why)
    }
}

fn is_on(seen: &Seen) -> Result<(), CatalogError> {
    match seen.broker.catalog_options().access {
        CatalogAccess::Off => Err(CatalogError::new(
            StatusCode::NOT_FOUND,
            "NotFoundException",
            "this node has no catalog: its setting catalog is off",
        )),
        _ => Ok(()),
    }
}

/// What stands behind the `?` under that name.
fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut all = form_urlencoded::parse(query.as_bytes());
    all.find(|(asked, _)| asked == name)
        .map(|(_, value)| value.into_owned())
}

fn check_namespace(name: &str) -> Result<(), CatalogError> {
    if name == NAMESPACE {
        return Ok(());
    }
    Err(CatalogError::new(
        StatusCode::NOT_FOUND,
        "NoSuchNamespaceException",
        format!("there is no namespace '{name}': all tables are in '{NAMESPACE}'"),
    ))
}

/// The same of a table: there is none in a namespace that there is not. Engines look for `weir.table.files` as for a
/// table `files` first, and go on if there is no such table.
fn check_namespace_of(table: &str, namespace: &str) -> Result<(), CatalogError> {
    check_namespace(namespace).map_err(|_| {
        let namespace = namespace.replace('\u{1f}', ".");
        let why =
            format!("there is no table '{namespace}.{table}': all tables are in '{NAMESPACE}'");
        CatalogError::new(StatusCode::NOT_FOUND, "NoSuchTableException", why)
    })
}

async fn config(State(seen): State<Seen>, request: Request) -> Result<Response, CatalogError> {
    session(&seen, &request.into_parts().0).await?;
    Ok(ok(
        &json!({"defaults": {}, "overrides": {}, "endpoints": ENDPOINTS}),
    ))
}

/// OAuth's client credentials and token exchange (RFC 6749, RFC 8693), as engines use them.
async fn log_in(State(seen): State<Seen>, request: Request) -> Response {
    match token(&seen, request).await {
        Ok(body) => {
            let mut answer = ok(&body);
            let never = HeaderValue::from_static("no-store");
            answer.headers_mut().insert(header::CACHE_CONTROL, never);
            answer
        }
        Err(error) => {
            let kind = match error.status {
                StatusCode::BAD_REQUEST => "invalid_request",
                StatusCode::UNAUTHORIZED => "invalid_client",
                _ => "temporarily_unavailable",
            };
            let body = json!({"error": kind, "error_description": error.message});
            answer(error.status, body.to_string())
        }
    }
}

async fn token(seen: &Seen, request: Request) -> Result<Value, CatalogError> {
    is_on(seen)?;
    let (head, body) = request.into_parts();
    let remote = remote_of(&head.extensions);
    let body = match timeout(LOGIN_WITHIN, to_bytes(body, MAX_LOGIN)).await {
        Ok(Ok(body)) => body,
        _ => {
            return Err(CatalogError::bad_request(
                "the body is too long, or too slow",
            ));
        }
    };
    let said: Map<String, Value> = form_urlencoded::parse(&body)
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let header = head.headers.get(header::AUTHORIZATION);
    let header = header.and_then(|header| header.to_str().ok());
    let identity = match (text("client_id"), text("client_secret")) {
        (Some(user), Some(password)) => {
            by_password(seen, remote, user, Secret::new(password)).await?
        }
        _ => match (
            header.and_then(|header| header.strip_prefix("Basic ")),
            text("subject_token"),
        ) {
            (Some(said), _) => {
                let (user, password) = basic(said).map_err(Unknown::Malformed)?;
                by_password(seen, remote, &user, password).await?
            }
            // A token for a token that is good still.
            (None, Some(token)) => seen.broker.of_bearer_token(token).await?,
            (None, None) => {
                return Err(CatalogError::bad_request(
                    "client_id and client_secret are needed: the name of a user, and its password",
                ));
            }
        },
    };
    let (token, lifetime) = seen.broker.bearer_token(&identity).await?;
    Ok(json!({
        "access_token": token,
        "token_type": "bearer",
        "expires_in": lifetime.as_secs(),
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
    }))
}

async fn namespaces(State(seen): State<Seen>, request: Request) -> Result<Response, CatalogError> {
    let (head, _) = request.into_parts();
    session(&seen, &head).await?;
    // The only namespace has none within.
    let namespaces = match parameter(&head.uri, "parent") {
        Some(parent) if !parent.is_empty() => {
            check_namespace(&parent)?;
            vec![]
        }
        _ => vec![[NAMESPACE]],
    };
    Ok(ok(
        &json!({"namespaces": namespaces, "next-page-token": null}),
    ))
}

async fn namespace(
    State(seen): State<Seen>,
    Path(namespace): Path<String>,
    request: Request,
) -> Result<Response, CatalogError> {
    session(&seen, &request.into_parts().0).await?;
    check_namespace(&namespace)?;
    Ok(ok(&json!({"namespace": [NAMESPACE], "properties": {}})))
}

async fn tables(
    State(seen): State<Seen>,
    Path(namespace): Path<String>,
    request: Request,
) -> Result<Response, CatalogError> {
    let (head, _) = request.into_parts();
    let session = session(&seen, &head).await?;
    check_namespace(&namespace)?;
    // Who does not ask for pages is given everything.
    let (after, limit) = match parameter(&head.uri, "pageToken") {
        None => (String::new(), usize::MAX),
        Some(token) => {
            let size = parameter(&head.uri, "pageSize");
            let size = size.map_or(Ok(MAX_PAGE), |size| size.parse());
            let size = size.ok().filter(|size| *size > 0);
            let size = size.ok_or_else(|| CatalogError::bad_request("pageSize is no number"))?;
            (token, size.min(MAX_PAGE))
        }
    };
    // One more, to know whether there is one.
    let asked = limit.saturating_add(1);
    let mut names = seen.broker.table_names(&session, &after, asked).await?;
    let next = match names.len() > limit {
        true => {
            names.truncate(limit);
            names.last().cloned()
        }
        false => None,
    };
    let identifiers = names
        .iter()
        .map(|name| json!({"namespace": [NAMESPACE], "name": name}));
    let identifiers: Vec<Value> = identifiers.collect();
    Ok(ok(
        &json!({"identifiers": identifiers, "next-page-token": next}),
    ))
}

async fn find_table(
    State(seen): State<Seen>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, CatalogError> {
    let session = session(&seen, &request.into_parts().0).await?;
    check_namespace_of(&name, &namespace)?;
    seen.broker.find_table(&session, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn load_table(
    State(seen): State<Seen>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, CatalogError> {
    let (head, _) = request.into_parts();
    let session = session(&seen, &head).await?;
    check_namespace_of(&name, &namespace)?;
    let refs_only = match parameter(&head.uri, "snapshots").as_deref() {
        None | Some("" | "all") => false,
        Some("refs") => true,
        Some(other) => {
            let why = format!("snapshots={other}: it is `all` or `refs`");
            return Err(CatalogError::bad_request(why));
        }
    };
    let asks = asks_credentials(&head.headers);
    let loaded = seen.broker.load_table(&session, &name, asks).await;
    let LoadedTable {
        version,
        metadata,
        metadata_location,
        vended,
    } = loaded.map_err(|error| denied(&session, error))?;
    let etag = etag(&seen, &format!("{version}-{refs_only}"), vended.as_ref());
    if is_known(&head.headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let metadata = shown_metadata(&metadata, refs_only).map_err(|error| {
        let broken = StatusCode::INTERNAL_SERVER_ERROR;
        let why = format!("the metadata of table '{name}' cannot be read: {error}");
        CatalogError::new(broken, "InternalServerError", why)
    })?;
    let mut body = json!({
        "metadata-location": metadata_location,
        "metadata": metadata,
        "config": {},
    });
    if let Some(vended) = vended {
        let config = file_config(&vended, &head, &name);
        body["storage-credentials"] = json!([{"prefix": vended.prefix, "config": config.clone()}]);
        body["config"] = config;
    }
    let mut response = ok(&body);
    if let Ok(etag) = etag.parse() {
        response.headers_mut().insert(header::ETAG, etag);
    }
    Ok(response)
}

fn shown_metadata(metadata: &Bytes, refs_only: bool) -> Result<Value, serde_json::Error> {
    let mut metadata: Value = serde_json::from_slice(metadata)?;
    if refs_only {
        let current = metadata["current-snapshot-id"].clone();
        if let Some(snapshots) = metadata["snapshots"].as_array_mut() {
            snapshots.retain(|snapshot| snapshot["snapshot-id"] == current);
        }
    }
    Ok(metadata)
}

async fn credentials(
    State(seen): State<Seen>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, CatalogError> {
    let (head, _) = request.into_parts();
    let session = session(&seen, &head).await?;
    check_namespace_of(&name, &namespace)?;
    let vended = seen.broker.vend_for(&session, &name).await;
    let vended = vended.map_err(|error| denied(&session, error))?;
    let all = vended.iter().map(|vended| {
        let config = file_config(vended, &head, &name);
        json!({"prefix": vended.prefix, "config": config})
    });
    let all: Vec<Value> = all.collect();
    Ok(ok(&json!({"storage-credentials": all})))
}

/// Who has not logged in is told to.
fn denied(session: &Session, error: LoadTableError) -> CatalogError {
    match error {
        LoadTableError::Denied(_) if session.user.is_none() => {
            CatalogError::not_logged_in(error.to_string())
        }
        error => error.into(),
    }
}

/// Whether an engine wants to be given credentials. Signing for it, of each request, is the other way that there is; it
/// is not offered.
fn asks_credentials(headers: &HeaderMap) -> bool {
    let asked = headers.get_all(DELEGATION).iter();
    let mut ways = asked.flat_map(|ways| ways.to_str().unwrap_or_default().split(','));
    ways.any(|way| way.trim().eq_ignore_ascii_case("vended-credentials"))
}

/// What tells one answer from another: so that an engine that keeps one has credentials with half of their time before
/// them, it changes as often.
fn etag(seen: &Seen, what: &str, vended: Option<&Vended>) -> String {
    let Some(vended) = vended else {
        return format!("\"{what}\"");
    };
    let half = (vended.lifetime / 2).as_millis().max(1);
    let now = u128::try_from(seen.broker.manifest().time().0).unwrap_or(0);
    format!("\"{what}-{}\"", now / half)
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known.flat_map(|known| known.to_str().unwrap_or_default().split(','));
    known.any(|known| known.trim().trim_start_matches("W/") == etag)
}

/// With what an engine reads the files, in the words of Iceberg's libraries.
fn file_config(vended: &Vended, head: &Parts, table: &str) -> Value {
    let mut config = Map::new();
    let mut say = |name: &str, value: &str| drop(config.insert(name.to_owned(), value.into()));
    let expires = match &vended.access {
        VendedAccess::Node(grant) => {
            say("s3.access-key-id", grant.key_id());
            say(
                "s3.secret-access-key",
                &String::from_utf8_lossy(grant.secret()),
            );
            say("s3.session-token", grant.token());
            say("s3.endpoint", &own_url(head));
            say("s3.region", ANY_REGION);
            say("client.region", ANY_REGION);
            path_style(&mut say);
            grant.expires()
        }
        VendedAccess::Store(lent) => {
            say("s3.access-key-id", &lent.key_id);
            say("s3.secret-access-key", lent.secret());
            say("s3.session-token", lent.token());
            say("s3.region", &lent.region);
            say("client.region", &lent.region);
            if let Some(endpoint) = &lent.endpoint {
                say("s3.endpoint", endpoint);
                path_style(&mut say);
            }
            lent.expires
        }
    };
    say("s3.session-token-expires-at-ms", &expires.0.to_string());
    let again = format!("v1/namespaces/{NAMESPACE}/tables/{table}/credentials");
    say("client.refresh-credentials-endpoint", &again);
    Value::Object(config)
}

/// The bucket is in the path, and not in the name of the host.
fn path_style(say: &mut impl FnMut(&str, &str)) {
    say("s3.path-style-access", "true");
    say("s3.force-virtual-addressing", "false");
}

/// The URL by which the client has reached this node, which is one by which it reaches it. Something before the node
/// may speak TLS with the client, and say so.
fn own_url(head: &Parts) -> String {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    let host = text("host").unwrap_or("localhost");
    format!("{scheme}://{host}")
}

async fn unknown_path(State(seen): State<Seen>, uri: Uri) -> CatalogError {
    if let Err(off) = is_on(&seen) {
        return off;
    }
    let why = format!("{}: this catalog has no such path", uri.path());
    CatalogError::new(StatusCode::NOT_FOUND, "NotFoundException", why)
}

async fn read_only() -> CatalogError {
    CatalogError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "UnsupportedOperationException",
        "this catalog is read-only: tables are written by Weir alone",
    )
}
