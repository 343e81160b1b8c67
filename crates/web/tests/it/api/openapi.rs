//! The description of the API describes each of its routes and no other. That the answers are as described is tried by
//! `make openapi`, against the real server.

use std::collections::BTreeSet;

use allswell_web::routes::routes;
use http::StatusCode;

use super::house::House;

#[tokio::test]
async fn the_description_has_every_route_of_version_3_with_its_key() {
    let house = House::new().await;
    let answer = house.ask("GET", "/api/v3/openapi.json").send().await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (StatusCode::OK, "application/json")
    );
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");

    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            let security = operation.get("security").unwrap_or(&document["security"]);
            let key = security.as_array().unwrap().first();
            let key = key.map_or("anyone", |key| key.as_object().unwrap().keys().next().unwrap());
            described.insert((
                path.replace("{id}", "{code}"),
                method.to_uppercase(),
                key.to_owned(),
            ));
        }
    }
    let served: BTreeSet<_> = routes()
        .into_iter()
        .filter(|route| route.path.starts_with("/api/v3/") && route.method != "*")
        .map(|route| {
            let key = match route.access.word() {
                "read-only key" | "read-write key" => "apiKey",
                "metrics key" => "metricsKey",
                other => other,
            };
            (route.path, route.method.to_owned(), key.to_owned())
        })
        .collect();
    assert_eq!(described, served);
}
