//! The description of the native API describes each of its routes and no other.

use std::collections::BTreeSet;

use allswell_web::routes::routes;

use crate::api::house::House;

#[tokio::test]
async fn the_description_has_every_route_with_its_key() {
    let house = House::new().await;
    let document = house.ask("GET", "/v1/openapi.json").send().await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            let key = operation["security"].as_array().unwrap().first();
            let key = key.map_or("anyone", |key| key.as_object().unwrap().keys().next().unwrap());
            described.insert((path.clone(), method.to_uppercase(), key.to_owned()));
        }
    }
    let served: BTreeSet<_> = routes()
        .into_iter()
        .filter(|route| route.path.starts_with("/v1/") && route.method != "*")
        .map(|route| {
            let key = match route.access.word() {
                "read-only key" => "readKey",
                "read-write key" => "writeKey",
                other => other,
            };
            (route.path, route.method.to_owned(), key.to_owned())
        })
        .collect();
    assert_eq!(described, served);
}
