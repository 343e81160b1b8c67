//! `allswell routes`

use anyhow::Result;
use serde_json::json;

use super::Answer;

/// `allswell routes`
pub fn print(answer: Answer) -> Result<()> {
    let routes = allswell_web::routes::routes();
    let shown: Vec<_> = routes
        .iter()
        .map(|route| json!({ "method": route.method, "path": route.path, "access": route.access.word() }))
        .collect();
    let lines: String = routes
        .iter()
        .map(|route| format!("{:7} {:45} {}\n", route.method, route.path, route.access.word()))
        .collect();
    answer.give(&json!({ "routes": shown }), &lines)
}
