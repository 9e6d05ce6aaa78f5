//! The conversation with a mail server that stalls, lies, hangs up and refuses: what became of a mail is known, or is known not to be
//! known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use billday::mail::smtp::{Conversation, Limits, Login, Security, SmtpServer, SmtpSettings, Steps};
use billday::mail::{MailError, Outgoing};

use crate::support::run;
use crate::support::smtp::{At, Fault, MailServer, Manner, PASSWORD, USER, acceptor, short_limits};

const MESSAGE: &[u8] = b"Message-ID: <1@x.example>\r\nSubject: s\r\n\r\n.one dot\r\n..two\r\n";

fn conversation(settings: SmtpSettings) -> Conversation {
    Arc::new(SmtpServer::new(settings).expect("settings")).conversation()
}

async fn send_to(conversation: &mut Conversation, to: &str) -> Result<(), MailError> {
    let mail = Outgoing { from: "billing@shop.example", to, name: "1", bytes: MESSAGE };
    conversation.send(&mail, tokio::time::Instant::now() + Duration::from_secs(3_600)).await
}

async fn send(conversation: &mut Conversation) -> Result<(), MailError> {
    send_to(conversation, "anna@buyer.example").await
}

/// What becomes of the first of two mails where `fault` happens; the second must go out, and the server must have taken what it
/// is said to have taken.
async fn first_of_two(at: At, fault: Fault) -> Result<(), MailError> {
    let server = MailServer::start(Manner::default()).await;
    let mut conversation = conversation(server.settings());
    server.fail(at, fault);
    let start = Instant::now();
    let first = send(&mut conversation).await;
    assert!(start.elapsed() < Duration::from_secs(12), "it took {:?}", start.elapsed());
    assert_eq!(server.faults_left(), 0, "the fault did not happen");
    assert_eq!(send_to(&mut conversation, "next@buyer.example").await, Ok(()), "after {first:?}");
    conversation.end().await;
    let to_first = server.taken().iter().filter(|mail| mail.to == "anna@buyer.example").count();
    match &first {
        Ok(()) => assert_eq!(to_first, 1),
        Err(MailError::Unknown(_)) => assert!(to_first <= 1),
        Err(_) => assert_eq!(to_first, 0, "taken, and said to be not: {first:?}"),
    }
    let to_next: Vec<_> = server.taken().into_iter().filter(|mail| mail.to == "next@buyer.example").collect();
    assert_eq!(to_next.len(), 1);
    assert_eq!(to_next[0].message.as_bytes(), [MESSAGE, b"\r\n"].concat());
    first
}

fn kind(sent: &Result<(), MailError>) -> &'static str {
    match sent {
        Ok(()) => "accepted",
        Err(MailError::Refused(_)) => "refused",
        Err(MailError::Deferred(_)) => "deferred",
        Err(MailError::Broken(_)) => "broken",
        Err(MailError::Unknown(_)) => "unknown",
        Err(MailError::Late(_)) => "late",
        Err(MailError::Transport(_)) => "transport",
    }
}

/// Checks the outcome of each fault at one place.
async fn outcomes(at: At, cases: &[(Fault, &str)]) {
    let mut works = tokio::task::JoinSet::new();
    for (fault, expected) in cases.iter().cloned().map(|(fault, expected)| (fault, expected.to_owned())) {
        works.spawn(async move {
            let sent = first_of_two(at, fault.clone()).await;
            assert_eq!(kind(&sent), expected, "{fault:?} at {at:?}: {sent:?}");
        });
    }
    while let Some(result) = works.join_next().await {
        result.expect("the expected outcome");
    }
}

#[test]
fn before_the_recipient_all_that_goes_wrong_is_the_transports_fault() {
    run(async {
        for at in [At::Greeting, At::Hello, At::Sender] {
            let cases = [
                Fault::Say("421 busy"),
                Fault::Say("554 not you"),
                Fault::Say("451 later"),
                Fault::Say("354 what"),
                Fault::Stall,
                Fault::HangUp,
                Fault::Endless,
                Fault::EndlessLine,
                Fault::Long,
                Fault::Nonsense,
                Fault::Slowly(Duration::from_millis(400)),
            ];
            // lettre takes any 2xx or 3xx for a greeting; the next step finds out.
            let skip = |fault: &Fault| at != At::Sender && matches!(fault, Fault::Say("354 what"));
            let cases: Vec<_> =
                cases.into_iter().filter(|fault| !skip(fault)).map(|fault| (fault, "transport")).collect();
            outcomes(at, &cases).await;
        }
    });
}

#[test]
fn at_the_recipient_a_refusal_is_about_this_mail() {
    run(async {
        outcomes(
            At::Recipient,
            &[
                (Fault::Say("550 5.1.1 no such user"), "refused"),
                (Fault::Say("451 4.7.1 greylisted"), "deferred"),
                (Fault::Say("452 4.2.2 mailbox full"), "deferred"),
                (Fault::Say("552 5.2.2 mailbox full"), "deferred"),
                (Fault::Say("421 closing"), "transport"),
                (Fault::Say("530 5.7.0 log in first"), "transport"),
                (Fault::Say("354 what"), "broken"),
                (Fault::Stall, "broken"),
                (Fault::HangUp, "broken"),
                (Fault::Endless, "broken"),
                (Fault::EndlessLine, "broken"),
                (Fault::Long, "broken"),
                (Fault::Nonsense, "broken"),
                (Fault::Slowly(Duration::from_millis(400)), "broken"),
                (Fault::Slowly(Duration::from_millis(5)), "accepted"),
            ],
        )
        .await;
    });
}

#[test]
fn without_a_354_no_message_is_sent() {
    run(async {
        outcomes(
            At::Data,
            &[
                (Fault::Say("250 instead of 354"), "broken"),
                (Fault::Say("451 later"), "deferred"),
                (Fault::Say("554 no"), "refused"),
                (Fault::Say("421 closing"), "transport"),
                (Fault::Stall, "broken"),
                (Fault::HangUp, "broken"),
                (Fault::Endless, "broken"),
                (Fault::Nonsense, "broken"),
            ],
        )
        .await;
    });
}

#[test]
fn after_the_last_dot_only_a_2xx_is_sent_only_a_refusal_is_not_and_all_else_is_unknown() {
    run(async {
        outcomes(
            At::Message,
            &[
                (Fault::Say("554 5.7.1 looks like spam"), "refused"),
                (Fault::Say("552 5.3.4 too large"), "refused"),
                (Fault::Say("452 disk full"), "deferred"),
                (Fault::Say("421 closing"), "transport"),
                (Fault::Say("354 what"), "unknown"),
                (Fault::HangUp, "unknown"),
                (Fault::TakeAndHangUp, "unknown"),
                (Fault::TakeAndStall, "unknown"),
                (Fault::Endless, "unknown"),
                (Fault::EndlessLine, "unknown"),
                (Fault::Long, "unknown"),
                (Fault::Nonsense, "unknown"),
                (Fault::Slowly(Duration::from_millis(10)), "accepted"),
            ],
        )
        .await;
    });
}

#[test]
fn a_line_that_breaks_within_a_message_leaves_no_doubt() {
    run(async {
        let server = MailServer::start(Manner::default()).await;
        let limits = Limits { body: Duration::from_millis(400), ..short_limits() };
        let mut conversation = conversation(SmtpSettings { limits, ..server.settings() });
        server.fail(At::Message, Fault::HangUpInMessage);
        // More than the buffers between the two take.
        let bytes = [MESSAGE, &b"x".repeat(20_000_000)].concat();
        let mail = Outgoing { from: "billing@shop.example", to: "anna@buyer.example", name: "1", bytes: &bytes };
        let far = tokio::time::Instant::now() + Duration::from_secs(3_600);
        let sent = conversation.send(&mail, far).await;
        assert_eq!(kind(&sent), "broken", "{sent:?}");
        assert_eq!(server.taken(), []);
    });
}

#[test]
fn mails_share_a_line_up_to_the_number_that_one_may_carry_and_a_refused_one_does_not_break_it() {
    run(async {
        let server = MailServer::start(Manner::default()).await;
        let mut conversation = conversation(SmtpSettings { messages_per_connection: 3, ..server.settings() });
        for n in 0..7 {
            if n == 1 {
                server.fail(At::Recipient, Fault::Say("550 nobody"));
            }
            let sent = send(&mut conversation).await;
            assert_eq!(kind(&sent), if n == 1 { "refused" } else { "accepted" });
        }
        conversation.end().await;
        assert_eq!((server.taken().len(), server.connections()), (6, 3));
        assert_eq!(server.commands().iter().filter(|verb| *verb == "QUIT").count(), 3);
    });
}

#[test]
fn a_line_that_the_server_closed_between_two_mails_is_made_anew_at_once() {
    run(async {
        let server = MailServer::start(Manner::default()).await;
        let mut conversation = conversation(server.settings());
        assert_eq!(send(&mut conversation).await, Ok(()));
        for fault in [Fault::Say("421 idle for too long"), Fault::HangUp, Fault::Say("451 too many on this line")] {
            server.fail(At::Sender, fault);
            assert_eq!(send(&mut conversation).await, Ok(()));
        }
        assert_eq!((server.taken().len(), server.connections()), (4, 4));
    });
}

#[test]
fn a_mail_that_could_not_be_heard_of_in_time_is_not_begun() {
    run(async {
        let server = MailServer::start(Manner::default()).await;
        let mut conversation = conversation(server.settings());
        let mail = Outgoing { from: "billing@shop.example", to: "anna@buyer.example", name: "1", bytes: MESSAGE };
        let sent = conversation.send(&mail, tokio::time::Instant::now() + Duration::from_millis(500)).await;
        assert_eq!(kind(&sent), "late", "{sent:?}");
        assert!(!server.commands().contains(&"DATA".to_owned()));
        assert_eq!(send(&mut conversation).await, Ok(()), "the line is as good as before");
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn nobody_at_the_other_end_is_told_at_once_with_the_place() {
    run(async {
        let server = MailServer::start(Manner::default()).await;
        let settings = server.settings();
        drop(server);
        let sent = send(&mut conversation(settings.clone())).await;
        let Err(MailError::Transport(why)) = sent else { panic!("{sent:?}") };
        assert!(why.starts_with(&format!("cannot connect to the mail server 127.0.0.1:{}: ", settings.port)), "{why}");
    });
}

#[test]
fn both_kinds_of_tls_work_with_a_login_and_the_steps_are_told_without_the_password() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let ca_file = folder.path().join("ca.pem");
        let acceptor = acceptor(&ca_file);
        for security in [Security::StartTls, Security::Tls] {
            let manner = Manner { tls: Some((security, acceptor.clone())), wants_login: true, ..Manner::default() };
            let server = MailServer::start(manner).await;
            let settings = server.settings_encrypted(security, ca_file.clone());
            let mut conversation = conversation(settings.clone()).noted();
            assert_eq!(send(&mut conversation).await, Ok(()), "{security:?}");
            let told = conversation.steps().join("\n");
            for step in
                ["connected to localhost:", "encrypted with TLS", "logged in: 235 welcome", "message taken: 250 taken"]
            {
                assert!(told.contains(step), "{step} is not in {told}");
            }
            assert!(!told.contains(PASSWORD) && !format!("{settings:?}").contains(PASSWORD));
            let mut steps = Steps::noted();
            SmtpServer::new(settings.clone()).expect("settings").greet(&mut steps).await.expect("a greeting");
            assert!(steps.list().last().is_some_and(|last| last.starts_with("logged in")), "{steps:?}");

            // Nobody vouches for it.
            let untrusted = SmtpSettings { ca_file: None, ..settings.clone() };
            let sent = send(&mut self::conversation(untrusted)).await;
            assert_eq!(kind(&sent), "transport", "{sent:?}");
            // The certificate is for another name.
            let misnamed = SmtpSettings { host: "127.0.0.1".into(), ..settings.clone() };
            let sent = send(&mut self::conversation(misnamed)).await;
            assert_eq!(kind(&sent), "transport", "{sent:?}");
            let login = Some(Login { user: USER.into(), password: "other".into() });
            let sent = send(&mut self::conversation(SmtpSettings { login, ..settings.clone() })).await;
            let Err(MailError::Transport(why)) = sent else { panic!("{sent:?}") };
            assert!(why.contains("the login was refused by localhost:") && why.contains("535 5.7.8"), "{why}");
            assert_eq!(server.taken().len(), 1);
        }
    });
}

#[test]
fn no_mail_and_no_password_goes_in_clear_where_tls_is_wanted() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let ca_file = folder.path().join("ca.pem");
        acceptor(&ca_file);
        let server = MailServer::start(Manner { wants_login: true, ..Manner::default() }).await;
        for security in [Security::StartTls, Security::Tls] {
            let sent = send(&mut conversation(server.settings_encrypted(security, ca_file.clone()))).await;
            assert_eq!(kind(&sent), "transport", "{sent:?}");
        }
        let said = server.commands();
        assert!(!said.contains(&"AUTH".to_owned()) && !said.contains(&"MAIL".to_owned()), "{said:?}");
        let login = Some(Login { user: USER.into(), password: PASSWORD.into() });
        let refused = SmtpServer::new(SmtpSettings { login, ..server.settings() });
        assert!(refused.is_err(), "a password in clear");
    });
}

#[test]
fn what_is_slipped_in_before_the_encryption_is_not_taken_for_an_answer_from_inside() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let ca_file = folder.path().join("ca.pem");
        let tls = Some((Security::StartTls, acceptor(&ca_file)));
        let server = MailServer::start(Manner { tls, wants_login: true, slips_in: true }).await;
        let sent = send(&mut conversation(server.settings_encrypted(Security::StartTls, ca_file))).await;
        let Err(MailError::Transport(why)) = sent else { panic!("{sent:?}") };
        assert!(why.starts_with("cannot encrypt the line to localhost:"), "{why}");
        assert!(!server.commands().contains(&"AUTH".to_owned()));
    });
}
