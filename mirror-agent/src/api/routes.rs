//! Every endpoint, once: the router and the home page are made from the same table.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::Admin;
use crate::stats::export;

/// One endpoint.
struct Route {
    path: &'static str,
    /// One sentence for the home page.
    says: &'static str,
    answer: fn(&Admin) -> Response,
}

const ROUTES: [Route; 5] = [
    Route { path: "/", says: "This list.", answer: home },
    Route { path: "/metrics", says: "All counters and histograms as Prometheus text.", answer: metrics },
    Route { path: "/healthz", says: "200 while the process lives.", answer: healthz },
    Route {
        path: "/readyz",
        says: "200 once the taps are attached and the shards run, else 503 and what is waited for.",
        answer: readyz,
    },
    Route { path: "/api/v1/stats", says: "One reading of all counters as JSON.", answer: stats },
];

/// The router over [`ROUTES`].
pub(super) fn router(admin: Admin) -> Router {
    let mut router = Router::new();
    for Route { path, answer, .. } in ROUTES {
        router =
            router.route(path, get(move |State(admin): State<Arc<Admin>>| async move { answer(&admin) }));
    }
    router.fallback(not_found).method_not_allowed_fallback(wrong_method).with_state(Arc::new(admin))
}

fn home(_: &Admin) -> Response {
    let width = ROUTES.iter().map(|route| route.path.len()).max().unwrap_or_default();
    let lines = ROUTES.iter().map(|Route { path, says, .. }| format!("{path:width$}  {says}\n"));
    plain(StatusCode::OK, format!("mirror {}\n\n{}", env!("CARGO_PKG_VERSION"), lines.collect::<String>()))
}

fn metrics(admin: &Admin) -> Response {
    match export::text(vec![admin.monitor.snapshot()], admin.limits.counts()) {
        Ok(text) => ([(CONTENT_TYPE, export::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, format!("the counters cannot be written: {error}\n"))
        }
    }
}

fn healthz(_: &Admin) -> Response {
    plain(StatusCode::OK, "ok\n".to_owned())
}

fn readyz(admin: &Admin) -> Response {
    let mut pending = admin.ready.pending();
    pending.extend(admin.monitor.untapped());
    if pending.is_empty() {
        plain(StatusCode::OK, "ready\n".to_owned())
    } else {
        let lines = pending.iter().map(|what| format!("pending: {what}\n"));
        plain(StatusCode::SERVICE_UNAVAILABLE, lines.collect())
    }
}

fn stats(admin: &Admin) -> Response {
    json(StatusCode::OK, &admin.monitor.snapshot())
}

/// The body of an answer that is no answer.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'static str,
    path: &'a str,
    mend: &'static str,
}

async fn not_found(uri: Uri) -> Response {
    let refusal = Refusal { error: "no such endpoint", path: uri.path(), mend: "GET / lists the endpoints" };
    json(StatusCode::NOT_FOUND, &refusal)
}

async fn wrong_method(_: Method, uri: Uri) -> Response {
    let refusal = Refusal { error: "method not allowed", path: uri.path(), mend: "use GET" };
    json(StatusCode::METHOD_NOT_ALLOWED, &refusal)
}

fn plain(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    (status, axum::Json(body)).into_response()
}
