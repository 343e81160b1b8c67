//! Users.

use allswell_store::people::User;
use allswell_store::{Error, Store, Tx};

use crate::kit::{House, NOW, SYSTEM, on_each_database, rows};

on_each_database!(
    a_user_is_found_by_address_whatever_its_capitals,
    an_address_has_one_account,
    a_user_may_have_no_password,
    a_user_who_owns_a_project_stays,
);

fn user(house: &mut House<'_>, email: &str) -> User {
    User {
        id: house.dice.id(),
        email: email.to_owned(),
        is_admin: true,
        check_limit: 17,
        created_at: NOW,
    }
}

async fn insert(store: &Store, user: &User, password: Option<&'static str>) -> Result<(), Error> {
    let user = user.clone();
    store
        .write(async move |tx: &mut Tx<'_>| tx.user_insert(SYSTEM, &user, password).await)
        .await
}

async fn find(store: &Store, email: &'static str) -> Option<User> {
    let read = store.read(async move |reader| reader.user_by_email(SYSTEM, email).await);
    read.await.expect("a read")
}

async fn a_user_is_found_by_address_whatever_its_capitals(store: &Store) {
    let mut house = House::build(store).await;
    let dora = user(&mut house, "Дора.O'Neil@Example.ORG");
    insert(store, &dora, Some("hash")).await.expect("a user");
    for email in [
        "Дора.O'Neil@Example.ORG",
        "дора.o'neil@example.org",
        " ДОРА.O'NEIL@EXAMPLE.ORG\n",
    ] {
        assert_eq!(find(store, email).await.as_ref(), Some(&dora), "{email}");
    }
    assert_eq!(find(store, "dora@example.org").await, None);
}

async fn an_address_has_one_account(store: &Store) {
    let mut house = House::build(store).await;
    for email in ["alice@example.org", "ALICE@example.org"] {
        let twin = user(&mut house, email);
        let refused = insert(store, &twin, Some("hash")).await;
        let Err(Error::Conflict(rule)) = refused else {
            panic!("{refused:?}")
        };
        // SQLite names the column, PostgreSQL the constraint.
        let named = rule.contains("email_folded") || rule.contains("one_account_per_email");
        assert!(named, "it names the rule: {rule}");
    }
    assert_eq!(rows(store).await["users"], 3);
}

async fn a_user_may_have_no_password(store: &Store) {
    let mut house = House::build(store).await;
    let dora = user(&mut house, "dora@example.org");
    insert(store, &dora, None).await.expect("a user");
    assert_eq!(find(store, "dora@example.org").await, Some(dora));
}

async fn a_user_who_owns_a_project_stays(store: &Store) {
    let mut house = House::build(store).await;
    let dora = user(&mut house, "dora@example.org");
    insert(store, &dora, None).await.expect("a user");
    let delete = async |id| {
        store
            .write(async move |tx: &mut Tx<'_>| tx.user_delete(SYSTEM, id).await)
            .await
    };
    let refused = delete(house.alice.user).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    assert!(delete(dora.id).await.expect("a delete"));
    assert!(!delete(dora.id).await.expect("nobody to delete"));
    assert_eq!(find(store, "dora@example.org").await, None);
    assert!(find(store, "alice@example.org").await.is_some());
}
