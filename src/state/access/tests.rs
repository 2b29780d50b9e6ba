//! Users, groups and rules: how they change, and what is judged by them.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::state::tests::*;

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

/// Verifiers of no password, with keys that are found where they are shown.
fn verifiers(mechanism: ScramMechanism) -> Verifiers {
    let key = vec![0x5a; mechanism.hash_len()];
    let verifier = Verifier::new(4096, vec![0x5a; 16], key.clone(), key);
    Verifiers::from([(mechanism, verifier)])
}

fn create(name: &str, superuser: bool) -> AccessAction {
    AccessAction::CreateUser {
        user: user(name),
        superuser,
        verifiers: verifiers(ScramMechanism::Sha256),
    }
}

/// `User:a allow READ TOPIC LITERAL t *`, in that order.
fn rule(text: &str) -> AccessRule {
    let words: Vec<&str> = text.split(' ').collect();
    AccessRule {
        resource: ResourcePattern {
            kind: words[3].parse().unwrap(),
            pattern: words[4].parse().unwrap(),
            name: words[5].into(),
        },
        entry: Entry {
            principal: Principal::new(words[0]).unwrap(),
            host: words[6].into(),
            operation: words[2].parse().unwrap(),
            permission: words[1].parse().unwrap(),
        },
    }
}

fn add(rules: &[&str]) -> AccessAction {
    AccessAction::AddRules {
        rules: rules.iter().map(|text| rule(text)).collect(),
    }
}

fn alter(name: &str, superuser: Option<bool>, disabled: Option<bool>) -> AccessAction {
    AccessAction::AlterUser {
        user: user(name),
        superuser,
        disabled,
    }
}

/// A state that has users and rules, and a function that changes them.
fn folding() -> Folding {
    let mut f = Folding::new();
    f.apply(Op::RaiseLevel { to: Level::NEWEST }).unwrap();
    f
}

impl Folding {
    fn access(&mut self, action: AccessAction) -> Result<(), AccessError> {
        let expected = self.state.check_access(&action);
        let outcome = match self.apply(Op::Access { action }) {
            Ok(_) => Ok(()),
            Err(Rejected::Access(error)) => Err(error),
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome, expected);
        self.state.check().unwrap();
        let read = State::from_bytes(&self.state.to_bytes()).unwrap();
        assert_eq!(read, self.state);
        outcome
    }
}

/// A judge of these rules, beside an administrator `root` and a user `a`.
fn judged_by(rules: &[&str]) -> Folding {
    let mut f = folding();
    f.access(create("root", true)).unwrap();
    f.access(create("a", false)).unwrap();
    f.access(add(rules)).unwrap();
    f
}

fn asking(principal: &str) -> Asking<'_> {
    Asking {
        principal,
        host: "10.0.0.1",
        user: None,
        everyone: false,
    }
}

fn may(f: &Folding, principal: &str, operation: Operation, kind: ResourceType, name: &str) -> bool {
    let verdict = f
        .state
        .access()
        .judge(asking(principal), operation, kind, name);
    verdict.allows()
}

fn may_read(f: &Folding, principal: &str, topic: &str) -> bool {
    may(f, principal, Operation::Read, ResourceType::Topic, topic)
}

#[test]
fn nothing_is_defined_before_there_is_somebody_who_can_administer() {
    let mut f = folding();
    assert!(may_read(&f, Principal::ANONYMOUS, "t") && f.state.access().is_open());
    let group = AccessAction::AlterGroup {
        group: UserGroup::new("g").unwrap(),
        add: BTreeSet::from([user("a")]),
        remove: BTreeSet::new(),
    };
    let first = verifiers(ScramMechanism::Sha512);
    let by_kafka = AccessAction::AlterVerifiers {
        user: user("a"),
        set: first,
        remove: BTreeSet::new(),
    };
    for action in [
        create("a", false),
        add(&["User:a ALLOW READ TOPIC LITERAL t *"]),
        group.clone(),
        by_kafka.clone(),
    ] {
        assert_eq!(f.access(action), Err(AccessError::NoAdministrator));
        assert!(f.state.access().is_open());
    }
    f.access(create("root", true)).unwrap();
    assert!(!may_read(&f, Principal::ANONYMOUS, "t"));
    for action in [
        add(&["User:a ALLOW READ TOPIC LITERAL t *"]),
        group,
        by_kafka,
    ] {
        f.access(action).unwrap();
    }
}

fn the_last_administrator_stays() {
    let mut f = folding();
    f.access(create("root", true)).unwrap();
    f.access(create("a", false)).unwrap();
    let delete = AccessAction::DeleteUser {
        user: user("root"),
        open_to_everybody: false,
    };
    for action in [
        alter("root", Some(false), None),
        alter("root", None, Some(true)),
        delete.clone(),
    ] {
        assert_eq!(f.access(action), Err(AccessError::NoAdministrator));
    }
    f.access(alter("a", Some(true), None)).unwrap();
    f.access(delete).unwrap();
    // Who deletes all that is defined opens the cluster again, and says so. Its memberships go with the user.
    f.access(AccessAction::AlterGroup {
        group: UserGroup::new("g").unwrap(),
        add: BTreeSet::from([user("a")]),
        remove: BTreeSet::new(),
    })
    .unwrap();
    let delete = |open_to_everybody| AccessAction::DeleteUser {
        user: user("a"),
        open_to_everybody,
    };
    assert_eq!(f.access(delete(false)), Err(AccessError::OpensToEverybody));
    f.access(delete(true)).unwrap();
    assert!(f.state.access().is_open() && may_read(&f, "User:b", "t"));
}

#[test]
fn the_last_administrator_stays_until_nobody_is_defined() {
    the_last_administrator_stays();
}

#[test]
fn the_last_administrator_keeps_a_password() {
    let mut f = folding();
    f.access(create("root", true)).unwrap();
    let by_certificate = AccessAction::CreateUser {
        user: user("CN=b"),
        superuser: true,
        verifiers: Verifiers::new(),
    };
    f.access(by_certificate).unwrap();
    let without = |mechanism| AccessAction::AlterVerifiers {
        user: user("root"),
        set: Verifiers::new(),
        remove: BTreeSet::from([mechanism]),
    };
    let none = AccessError::NoAdministratorWithPassword;
    assert_eq!(f.access(without(ScramMechanism::Sha256)), Err(none));
    let (user, mechanism) = (user("root"), ScramMechanism::Sha512);
    let missing = AccessError::NoVerifier { user, mechanism };
    assert_eq!(f.access(without(ScramMechanism::Sha512)), Err(missing));
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut f = folding();
    f.access(create("root", true)).unwrap();
    let exists = AccessError::UserExists(user("root"));
    assert_eq!(f.access(create("root", true)), Err(exists));
    let unknown = || Err(AccessError::UnknownUser(user("b")));
    assert_eq!(f.access(alter("b", Some(true), None)), unknown());
    assert_eq!(
        f.access(AccessAction::DeleteUser {
            user: user("b"),
            open_to_everybody: false
        }),
        unknown()
    );
    let short = Verifier::new(4096, vec![1], vec![1; 32], vec![1; 31]);
    let few = Verifier::new(4095, vec![1], vec![1; 32], vec![1; 32]);
    let many = Verifier::new(16_385, vec![1], vec![1; 32], vec![1; 32]);
    let unsalted = Verifier::new(4096, vec![], vec![1; 32], vec![1; 32]);
    for verifier in [short, few, many, unsalted] {
        let action = AccessAction::AlterVerifiers {
            user: user("b"),
            set: Verifiers::from([(ScramMechanism::Sha256, verifier)]),
            remove: BTreeSet::new(),
        };
        assert!(matches!(f.access(action), Err(AccessError::Invalid(_))));
    }
    for bad in [
        "User:a ALLOW ALTER CLUSTER LITERAL other *",
        "User:a ALLOW READ TOPIC LITERAL  *",
        "User:a ALLOW READ TOPIC LITERAL t ",
    ] {
        assert!(
            matches!(f.access(add(&[bad])), Err(AccessError::Invalid(_))),
            "{bad}"
        );
    }
    let mut old = Folding::new();
    assert_eq!(
        old.access(create("root", true)),
        Err(AccessError::LevelTooLow)
    );
}

#[test]
fn verifiers_are_shown_nowhere() {
    let mut f = folding();
    let action = create("root", true);
    let op = Op::Access {
        action: action.clone(),
    };
    f.access(action).unwrap();
    let shown = [
        format!("{op:?}"),
        serde_json::to_string(&op).unwrap(),
        format!("{:?}", f.state),
        serde_json::to_string(f.state.access()).unwrap(),
    ];
    for shown in shown {
        assert!(shown.contains("root") && shown.contains("4096"), "{shown}");
        for key in ["90, 90", "90,90", "5a5a", "WloaW", "ZZ"] {
            assert!(!shown.contains(key), "{shown}");
        }
    }
}

#[test]
fn a_rule_is_about_who_it_names_from_where_it_says_and_what_it_matches() {
    let f = judged_by(&[
        "User:a ALLOW READ TOPIC LITERAL t *",
        "User:b ALLOW READ TOPIC PREFIXED app. 10.0.0.1",
        "User:b ALLOW READ TOPIC PREFIXED far. 10.0.0.2",
        "User:* ALLOW READ TOPIC LITERAL news *",
        "User:c ALLOW READ TOPIC LITERAL * *",
        "User:d ALLOW ALL TOPIC PREFIXED d *",
        "User:e ALLOW READ GROUP LITERAL t *",
    ]);
    for (principal, topic, expected) in [
        ("User:a", "t", true),
        ("User:a", "t2", false),
        ("User:A", "t", false),
        ("User:b", "app.x", true),
        ("User:b", "app.", true),
        ("User:b", "app", false),
        ("User:b", "far.x", false),
        ("User:x", "news", true),
        (Principal::ANONYMOUS, "news", true),
        ("User:x", "t", false),
        ("User:c", "anything", true),
        ("User:d", "d", true),
        ("User:e", "t", false),
        ("User:root", "t", true),
        ("Custom:root", "t", false),
    ] {
        assert_eq!(
            may_read(&f, principal, topic),
            expected,
            "{principal} {topic}"
        );
    }
}

#[test]
fn some_operations_imply_others_where_they_are_allowed_and_not_where_they_are_denied() {
    use Operation::{Alter, AlterConfigs, Create, Delete, Describe, DescribeConfigs, Read, Write};
    let f = judged_by(&[
        "User:r ALLOW READ TOPIC LITERAL t *",
        "User:w ALLOW WRITE TOPIC LITERAL t *",
        "User:d ALLOW DELETE TOPIC LITERAL t *",
        "User:l ALLOW ALTER TOPIC LITERAL t *",
        "User:s ALLOW ALTER_CONFIGS TOPIC LITERAL t *",
        "User:c ALLOW CREATE TOPIC LITERAL t *",
        "User:n ALLOW ALL TOPIC LITERAL t *",
        "User:n DENY READ TOPIC LITERAL t *",
        "User:o DENY ALL TOPIC LITERAL t *",
        "User:* ALLOW DESCRIBE TOPIC LITERAL t *",
        "User:p ALLOW DESCRIBE_CONFIGS TOPIC LITERAL t *",
        "User:q DENY ALTER_CONFIGS TOPIC LITERAL t *",
    ]);
    let all = [
        Read,
        Write,
        Create,
        Delete,
        Alter,
        Describe,
        DescribeConfigs,
        AlterConfigs,
    ];
    for (principal, allowed) in [
        ("User:r", &[Read, Describe][..]),
        ("User:w", &[Write, Describe]),
        ("User:d", &[Delete, Describe]),
        ("User:l", &[Alter, Describe]),
        ("User:s", &[Describe, DescribeConfigs, AlterConfigs]),
        ("User:c", &[Create, Describe]),
        (
            "User:n",
            &[
                Write,
                Create,
                Delete,
                Alter,
                Describe,
                DescribeConfigs,
                AlterConfigs,
            ],
        ),
        ("User:o", &[]),
        ("User:p", &[Describe, DescribeConfigs]),
        ("User:q", &[Describe]),
    ] {
        let granted = all
            .into_iter()
            .filter(|operation| may(&f, principal, *operation, ResourceType::Topic, "t"));
        assert_eq!(granted.collect::<Vec<_>>(), allowed, "{principal}");
    }
}

fn a_denial_decides() {
    let f = judged_by(&[
        "User:a ALLOW READ TOPIC LITERAL * *",
        "User:a DENY READ TOPIC PREFIXED secret *",
        "User:b DENY READ TOPIC LITERAL * *",
        "User:b ALLOW READ TOPIC LITERAL t *",
    ]);
    assert!(may_read(&f, "User:a", "public") && !may_read(&f, "User:a", "secret.t"));
    assert!(!may_read(&f, "User:b", "t"));
    let denied =
        f.state
            .access()
            .judge(asking("User:b"), Operation::Read, ResourceType::Topic, "t");
    assert_eq!(
        denied,
        Verdict::Rule(rule("User:b DENY READ TOPIC LITERAL * *"))
    );
}

#[test]
fn a_denial_decides_whatever_is_allowed() {
    a_denial_decides();
}

#[test]
fn everybody_may_what_no_rule_is_about_if_that_is_set() {
    let f = judged_by(&["User:a ALLOW READ TOPIC PREFIXED t *"]);
    let judge = |everyone, topic| {
        let asking = Asking {
            everyone,
            ..asking("User:b")
        };
        f.state
            .access()
            .judge(asking, Operation::Read, ResourceType::Topic, topic)
    };
    assert_eq!(judge(true, "u"), Verdict::NoRules(true));
    assert_eq!(judge(false, "u"), Verdict::NoRules(false));
    assert_eq!(judge(true, "t1"), Verdict::NotAllowed);
}

fn a_session_ends_with_its_user() {
    let mut f = judged_by(&["User:a ALLOW READ TOPIC LITERAL t *"]);
    let created = f.state.access().user("a").map(|user| user.created);
    let may = |f: &Folding| {
        let asking = Asking {
            user: created,
            ..asking("User:a")
        };
        let access = f.state.access();
        access
            .judge(asking, Operation::Read, ResourceType::Topic, "t")
            .allows()
    };
    assert!(may(&f));
    f.access(alter("a", None, Some(true))).unwrap();
    assert!(!may(&f) && !may_read(&f, "User:a", "t"));
    f.access(alter("a", None, Some(false))).unwrap();
    assert!(may(&f));
    f.access(AccessAction::DeleteUser {
        user: user("a"),
        open_to_everybody: false,
    })
    .unwrap();
    assert!(!may(&f));
    f.access(create("a", true)).unwrap();
    assert!(!may(&f), "somebody else has the name");
}

#[test]
fn a_session_ends_with_its_user_whoever_has_the_name_later() {
    a_session_ends_with_its_user();
}

#[test]
fn a_rule_about_a_group_is_about_who_is_in_it() {
    let mut f = judged_by(&["Group:g ALLOW READ TOPIC LITERAL t *"]);
    let members = |add: &[&str], remove: &[&str]| {
        let users = |names: &[&str]| names.iter().map(|name| user(name)).collect();
        AccessAction::AlterGroup {
            group: UserGroup::new("g").unwrap(),
            add: users(add),
            remove: users(remove),
        }
    };
    assert!(!may_read(&f, "User:a", "t"));
    f.access(members(&["a", "CN=x"], &[])).unwrap();
    assert!(may_read(&f, "User:a", "t") && may_read(&f, "User:CN=x", "t"));
    assert!(!may_read(&f, "Group:a", "t"));
    f.access(AccessAction::DeleteUser {
        user: user("a"),
        open_to_everybody: false,
    })
    .unwrap();
    assert!(!may_read(&f, "User:a", "t"));
    f.access(members(&[], &["CN=x", "nobody"])).unwrap();
    assert_eq!(f.state.access().groups().count(), 0);
}

#[test]
fn whether_anything_of_a_type_may_be_done_is_judged_as_kafka_does() {
    for (rules, expected) in [
        (&["User:b ALLOW WRITE TOPIC LITERAL t *"][..], false),
        (&["User:a ALLOW WRITE TOPIC LITERAL t *"], true),
        (&["User:a ALLOW ALL TOPIC PREFIXED t *"], true),
        (&["User:a ALLOW READ TOPIC LITERAL * *"], false),
        (&["User:a ALLOW WRITE TOPIC LITERAL t 10.0.0.2"], false),
        (&["User:* ALLOW WRITE TOPIC LITERAL * *"], true),
        (
            &[
                "User:a ALLOW WRITE TOPIC LITERAL t *",
                "User:a DENY WRITE TOPIC LITERAL t *",
            ],
            false,
        ),
        (
            &[
                "User:a ALLOW WRITE TOPIC PREFIXED t *",
                "User:a DENY WRITE TOPIC LITERAL t *",
            ],
            true,
        ),
        (
            &[
                "User:a ALLOW WRITE TOPIC LITERAL abc *",
                "User:a DENY ALL TOPIC PREFIXED ab *",
            ],
            false,
        ),
        (
            &[
                "User:a ALLOW WRITE TOPIC PREFIXED ab *",
                "User:a DENY ALL TOPIC PREFIXED abc *",
            ],
            true,
        ),
        (
            &[
                "User:a ALLOW WRITE TOPIC LITERAL * *",
                "User:a DENY WRITE TOPIC PREFIXED a *",
            ],
            true,
        ),
        (
            &[
                "User:a ALLOW WRITE TOPIC LITERAL t *",
                "User:* DENY WRITE TOPIC LITERAL * *",
            ],
            false,
        ),
        (&["User:a ALLOW WRITE GROUP LITERAL t *"], false),
    ] {
        let f = judged_by(rules);
        let any =
            f.state
                .access()
                .judge_any(asking("User:a"), Operation::Write, ResourceType::Topic);
        assert_eq!(any, expected, "{rules:?}");
        let access = f.state.access();
        assert!(access.judge_any(asking("User:root"), Operation::Write, ResourceType::Topic));
    }
}

#[test]
fn rules_are_found_by_filters_as_with_kafka() {
    let rules = [
        "User:a ALLOW READ TOPIC LITERAL foo *",
        "User:a ALLOW READ TOPIC PREFIXED f *",
        "User:b DENY WRITE TOPIC LITERAL * 10.0.0.1",
        "User:b ALLOW READ GROUP LITERAL foo *",
    ];
    let any = RuleFilter::default;
    let named = |name: &str, pattern| RuleFilter {
        name: Some(name.to_owned()),
        pattern,
        ..any()
    };
    let literal = PatternFilter::Is(PatternType::Literal);
    for (filter, expected) in [
        (any(), &[0, 1, 2, 3][..]),
        (named("foo", PatternFilter::Any), &[0, 3]),
        (named("f", PatternFilter::Any), &[1]),
        (named("foo", literal), &[0, 3]),
        (named("foo", PatternFilter::Match), &[0, 1, 2, 3]),
        (named("fox", PatternFilter::Match), &[1, 2]),
        (
            RuleFilter {
                pattern: literal,
                ..any()
            },
            &[0, 2, 3],
        ),
        (
            RuleFilter {
                kind: Some(ResourceType::Group),
                ..any()
            },
            &[3],
        ),
        (
            RuleFilter {
                principal: Some("User:b".to_owned()),
                ..any()
            },
            &[2, 3],
        ),
        (
            RuleFilter {
                host: Some("10.0.0.1".to_owned()),
                ..any()
            },
            &[2],
        ),
        (
            RuleFilter {
                operation: Some(Operation::Write),
                ..any()
            },
            &[2],
        ),
        (
            RuleFilter {
                operation: Some(Operation::All),
                ..any()
            },
            &[],
        ),
        (
            RuleFilter {
                permission: Some(Permission::Allow),
                ..any()
            },
            &[0, 1, 3],
        ),
    ] {
        let found = rules
            .iter()
            .zip(0..)
            .filter(|(text, _)| filter.matches(&rule(text)));
        let found: Vec<i32> = found.map(|(_, at)| at).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[test]
fn a_change_that_is_late_undoes_nothing() {
    let mut f = folding();
    f.access(create("root", true)).unwrap();
    let as_of = f.state.seq();
    let asked = |f: &mut Folding, as_of, action| {
        let until = Timestamp(i64::MAX);
        let seq = f.state.seq().next();
        let ops = vec![
            Op::Asked(Asked {
                ops: 1,
                as_of,
                until,
            }),
            Op::Access { action },
        ];
        match f.state.apply(seq, &commit(seq.0, ops), 64) {
            Folded::Outcomes(mut outcomes) => outcomes.pop().unwrap(),
            folded => panic!("{folded:?}"),
        }
    };
    asked(&mut f, as_of, create("a", false)).unwrap();
    let changed = f.state.seq();
    let late = asked(
        &mut f,
        as_of,
        AccessAction::DeleteUser {
            user: user("a"),
            open_to_everybody: false,
        },
    );
    assert_eq!(late, Err(Rejected::Overtaken { as_of, changed }));
}

#[test]
fn a_snapshot_that_the_fold_cannot_come_to_is_refused() {
    let f = judged_by(&["User:a ALLOW READ TOPIC LITERAL t *"]);
    let spoilt = |spoil: &dyn Fn(&mut Access)| {
        let mut state = f.state.clone();
        spoil(&mut state.access);
        State::from_bytes(&state.to_bytes())
            .unwrap_err()
            .to_string()
    };
    let disabled = spoilt(&|access| {
        access
            .users
            .get_mut(&user("root"))
            .unwrap()
            .make_mut()
            .disabled = true
    });
    assert!(disabled.contains("no administrator"), "{disabled}");
    let empty = ResourcePattern::literal(ResourceType::Topic, "u");
    let empty = spoilt(&|access| {
        drop(
            access
                .rules
                .insert(empty.clone(), Shared::new(BTreeSet::new())),
        )
    });
    assert!(empty.contains("that are none"), "{empty}");
    let future = spoilt(&|access| access.altered = Seq(99));
    assert!(future.contains("future"), "{future}");
    let short = spoilt(&|access| {
        let verifier = Verifier::new(4096, vec![1], vec![], vec![]);
        let a = access.users.get_mut(&user("a")).unwrap().make_mut();
        a.verifiers.insert(ScramMechanism::Sha512, verifier);
    });
    assert!(short.contains("is none"), "{short}");
}

#[test]
fn broken_rules_of_access_are_found() {
    assert_needed(&[
        (Rule::SomebodyCanAdminister, the_last_administrator_stays),
        (Rule::DenialsComeFirst, a_denial_decides),
        (Rule::SessionsEndWithTheirUser, a_session_ends_with_its_user),
    ]);
}

fn any_user() -> impl Strategy<Value = UserName> {
    prop_oneof![6 => "[a-c]", 1 => Just("*".to_owned())].prop_map(|name| {
        UserName::new(&name)
            .unwrap_or_else(|_| minicbor::decode(&minicbor::to_vec(&name).unwrap()).unwrap())
    })
}

fn any_verifiers() -> impl Strategy<Value = Verifiers> {
    (0..4u8).prop_map(|n| {
        let mut all = Verifiers::new();
        if n & 1 > 0 {
            all.extend(verifiers(ScramMechanism::Sha256));
        }
        if n & 2 > 0 {
            all.extend(verifiers(ScramMechanism::Sha512));
        }
        all
    })
}

fn any_rules() -> impl Strategy<Value = BTreeSet<AccessRule>> {
    let kind = prop_oneof![4 => Just("TOPIC"), 1 => Just("GROUP"), 1 => Just("CLUSTER")];
    let pattern = prop_oneof![Just("LITERAL"), Just("PREFIXED")];
    let permission = prop_oneof![3 => Just("ALLOW"), 1 => Just("DENY")];
    let operation = prop_oneof![Just("READ"), Just("ALL"), Just("DESCRIBE")];
    let one = (
        "User:[a-b]",
        permission,
        operation,
        kind,
        pattern,
        "[st]{0,3}",
    );
    let one = one.prop_map(|(principal, permission, operation, kind, pattern, name)| {
        rule(&format!(
            "{principal} {permission} {operation} {kind} {pattern} {name} *"
        ))
    });
    btree_set(one, 0..4)
}

/// Any action, valid or not.
pub(in crate::state) fn any_action() -> impl Strategy<Value = AccessAction> {
    let users = || btree_set(any_user(), 0..3);
    let some = || proptest::option::of(any::<bool>());
    let mechanisms = btree_set(
        prop_oneof![Just(ScramMechanism::Sha256), Just(ScramMechanism::Sha512)],
        0..2,
    );
    prop_oneof![
        4 => (any_user(), proptest::bool::weighted(0.7), any_verifiers()).prop_map(
            |(user, superuser, verifiers)| AccessAction::CreateUser { user, superuser, verifiers }
        ),
        2 => (any_user(), some(), some()).prop_map(
            |(user, superuser, disabled)| AccessAction::AlterUser { user, superuser, disabled }
        ),
        1 => (any_user(), any::<bool>()).prop_map(|(user, open_to_everybody)| AccessAction::DeleteUser { user, open_to_everybody }),
        2 => (any_user(), any_verifiers(), mechanisms).prop_map(
            |(user, set, remove)| AccessAction::AlterVerifiers { user, set, remove }
        ),
        2 => ("[g-h]", users(), users()).prop_map(|(group, add, remove)| AccessAction::AlterGroup {
            group: UserGroup::new(&group).unwrap(), add, remove,
        }),
        3 => any_rules().prop_map(|rules| AccessAction::AddRules { rules }),
        1 => any_rules().prop_map(|rules| AccessAction::RemoveRules { rules }),
    ]
}

impl AccessAction {
    /// What kind of action it is.
    pub(in crate::state) fn name(&self) -> &'static str {
        match self {
            AccessAction::CreateUser { .. } => "CreateUser",
            AccessAction::AlterUser { .. } => "AlterUser",
            AccessAction::DeleteUser { .. } => "DeleteUser",
            AccessAction::AlterVerifiers { .. } => "AlterVerifiers",
            AccessAction::AlterGroup { .. } => "AlterGroup",
            AccessAction::AddRules { .. } => "AddRules",
            AccessAction::RemoveRules { .. } => "RemoveRules",
        }
    }
}

proptest! {
    /// What is derived, and what must always hold, whatever is done.
    #[test]
    fn whatever_is_done_leaves_what_can_be_read_again(actions in vec(any_action(), 1..30)) {
        let mut f = folding();
        for action in actions {
            let _ = f.access(action);
        }
    }

    /// The jumps from pattern to pattern leave none out.
    #[test]
    fn the_rules_that_match_are_those_that_one_finds_by_looking_at_all(
        names in vec("[aäb]{1,4}|\\*", 1..12), asked in vec("[aäb]{1,5}|\\*", 1..6), literal in any::<u16>(),
    ) {
        let mut f = judged_by(&[]);
        let rules = names.iter().zip(0..).map(|(name, n)| {
            let pattern = if literal >> n & 1 > 0 { "LITERAL" } else { "PREFIXED" };
            rule(&format!("User:p{n} ALLOW READ TOPIC {pattern} {name} *"))
        });
        let rules: BTreeSet<AccessRule> = rules.collect();
        f.access(AccessAction::AddRules { rules: rules.clone() }).unwrap();
        for name in &asked {
            for rule in &rules {
                let principal = rule.entry.principal.as_str();
                prop_assert_eq!(may_read(&f, principal, name), rule.resource.matches(name), "{} {}", rule, name);
            }
        }
    }
}
