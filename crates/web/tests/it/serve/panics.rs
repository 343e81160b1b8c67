//! A handler that panics costs its own request and nothing else.

use std::sync::atomic::Ordering::Relaxed;

use super::kit::{LIMITS, tcp_house};

#[tokio::test]
async fn a_handler_that_panics_is_answered_500_and_the_connection_lives_on() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    for path in ["/panic", "/panic-later"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (500, "internal error\n"));
        let next = client.get("/ok").await;
        assert_eq!(next.status, 200);
        for answer in [answer, next] {
            assert!(
                answer.head.contains("x-content-type-options: nosniff"),
                "every answer says that it is what it says it is: {}",
                answer.head
            );
        }
    }
    assert_eq!(house.gauges.panics.load(Relaxed), 2);
    house.end().await;
}
