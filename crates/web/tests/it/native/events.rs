//! Events: what changed is told in order, and what was missed is told first. Here the loop that tells is not running:
//! what listeners get is what they missed; the story of the real binary has the rest.

use http::StatusCode;

use crate::api::house::House;

#[tokio::test]
async fn a_listener_must_say_a_number_it_was_given() {
    let house = House::new().await;
    for since in ["x", "-1", "1.5", "99999999999999999999"] {
        let ask = house
            .ask("GET", &format!("/v1/events?since={since}"))
            .key(&house.alice.read);
        let answer = ask.send().await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{since}");
        assert_eq!(answer.json()["field"], "since");
    }
}
