//! Whether we are well: `api/v*/status/`, `/healthz`, `/readyz`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use crate::error;
use crate::state::App;

/// GET `status/` and GET `/readyz`: asks the database to write something down.
pub(crate) async fn ready(State(app): State<App>) -> Response {
    let clock = app.clone();
    if app.store().is_ready(move || clock.now()).await {
        (StatusCode::OK, "OK").into_response()
    } else {
        error::try_again()
    }
}

/// GET `/healthz`: the process answers. Touches nothing, and so is the empty handler of the benchmarks.
pub(crate) async fn alive() -> &'static str {
    "OK"
}
