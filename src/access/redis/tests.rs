use std::time::{Duration, Instant};

use secrecy::SecretString;
use tokio::net::TcpListener;

use super::*;

fn settings(port: u16) -> Settings {
    Settings {
        nodes: vec![Node { host: "127.0.0.1".to_owned(), port }],
        cluster: false,
        trust: Trust::Plain,
        database: 0,
        username: Some("gate".to_owned()),
        password: Some(SecretString::from("HUSH".to_owned())),
        timeout: Duration::from_millis(200),
        prefix: "t:".to_owned(),
    }
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_said_to_be_down_and_is_not_waited_for() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = socket.local_addr().expect("an address").port();
    drop(socket);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let redis = Redis::start(settings(port), &tasks, stop.clone()).expect("settings");
    let began = Instant::now();
    for _ in 0..3 {
        let answered = redis.run::<String>(&redis::cmd("PING")).await;
        assert!(matches!(answered, Err(Unusable::Down(_))), "{answered:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(redis.snapshot(), RedisSnapshot { up: false, succeeded: 0, failed: 3 });
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn a_redis_that_accepts_and_says_nothing_is_left_after_the_time_limit() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = socket.local_addr().expect("an address").port();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let redis = Redis::start(settings(port), &tasks, stop.clone()).expect("settings");
    let began = Instant::now();
    let answered = redis.run::<String>(&redis::cmd("PING")).await;
    assert!(matches!(answered, Err(Unusable::TimedOut | Unusable::Down(_))), "{answered:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn what_is_shown_of_it_holds_no_password() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let redis = Redis::start(settings(1), &tasks, stop.clone()).expect("settings");
    let shown = format!("{redis:?} {:?}", settings(1));
    assert!(!shown.contains("HUSH"), "{shown}");
    assert_eq!(redis.key(&["spent:", "x"]), "t:spent:x");
    stop.cancel();
}

#[test]
fn a_long_error_is_clipped_to_a_line() {
    let text = clipped(&format!("a\nb{}", "é".repeat(400)));
    assert!(text.starts_with("a b") && text.len() <= MAX_ERROR);
}
