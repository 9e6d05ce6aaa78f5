//! Mails to a mail server, in a conversation of which every answer is checked and no wait is without an end.
//!
//! ```text
//! connect, greeting, EHLO ─► TLS ─► AUTH ─► MAIL ─► RCPT ─► DATA (354) ─► message ─► dot (2xx)
//! └──────────── the way for all mails ───────────┘  └── this mail was not taken ──┘  └─ it was, or nobody knows
//! ```
//!
//! After any doubt the line is dropped: one that is out of step would take the answer to one mail for that to the next.

mod line;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use tokio::time::{Instant, timeout};

use super::address::parse_address;
use super::{MailError, Outgoing};

/// Where the mail server is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub security: Security,
    /// Only over an encrypted line.
    pub login: Option<Login>,
    /// How this machine introduces itself.
    pub hello_name: String,
    /// The authority to trust alone, instead of those that the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// Mails on one connection at most.
    pub messages_per_connection: u32,
    pub limits: Limits,
}

/// How the line to the server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Encrypted after a first exchange in clear; never without.
    StartTls,
    /// Encrypted from the first byte.
    Tls,
    /// In clear, which only this machine itself may be spoken to.
    None,
}

/// A user of the mail server; its password is never printed.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How long each step may take at the most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To connect and be greeted; again as long for TLS, and for the login.
    pub greeting: Duration,
    /// For the answer to MAIL, to RCPT and to DATA.
    pub command: Duration,
    /// For the message to be taken off our hands.
    pub body: Duration,
    /// For the last answer. A server that is slow to take a mail takes it all the same: a shorter wait makes copies.
    pub last: Duration,
    /// For a farewell, which nothing depends on.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(30),
            command: Duration::from_secs(60),
            body: Duration::from_secs(120),
            last: Duration::from_secs(600),
            farewell: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// From DATA to the last answer.
    fn point_of_no_return(&self) -> Duration {
        self.command + self.body + self.last
    }
}

/// What was said on the way, for a person who tries it.
#[derive(Debug, Default)]
pub struct Steps(Option<Vec<String>>);

impl Steps {
    /// Steps that are noted.
    pub fn noted() -> Self {
        Self(Some(Vec::new()))
    }

    /// The steps so far, in order.
    pub fn list(&self) -> &[String] {
        self.0.as_deref().unwrap_or_default()
    }

    fn note(&mut self, step: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.0 {
            steps.push(step());
        }
    }
}

/// A mail server that conversations can be begun with.
pub struct SmtpServer {
    settings: SmtpSettings,
    tls: Option<TlsParameters>,
}

impl SmtpServer {
    /// Checks what can be checked without speaking to it.
    pub fn new(settings: SmtpSettings) -> Result<Self, MailError> {
        if settings.security == Security::None && settings.login.is_some() {
            return Err(MailError::Transport("a password never goes over a line that is not encrypted".into()));
        }
        let tls = if settings.security == Security::None { None } else { Some(tls(&settings)?) };
        Ok(Self { settings, tls })
    }

    /// A conversation that connects with its first mail.
    pub fn conversation(self: &Arc<Self>) -> Conversation {
        Conversation { server: Arc::clone(self), line: None, steps: Steps::default() }
    }

    /// Connects, encrypts, logs in and says goodbye.
    pub async fn greet(&self, steps: &mut Steps) -> Result<(), MailError> {
        let line = self.connect(steps).await?;
        line.hang_up(self.settings.limits.farewell).await;
        Ok(())
    }

    async fn connect(&self, steps: &mut Steps) -> Result<Line, MailError> {
        let SmtpSettings { host, port, security, login, hello_name, limits, .. } = &self.settings;
        let place = format!("{host}:{port}");
        let not = |what: &str, why: &dyn Display| MailError::Transport(format!("{what} {place}: {why}"));
        let hello_name = ClientId::Domain(hello_name.clone());
        let tcp = line::connect(host, *port, limits.greeting).await;
        let tcp = tcp.map_err(|error| not("cannot connect to the mail server", &error))?;
        let is_loopback = tcp.peer_ip().is_ok_and(|ip| ip.is_loopback());
        if *security == Security::None && !is_loopback {
            return Err(not(
                "mails go in clear only to this machine itself, which is not",
                &"another address answered",
            ));
        }
        steps.note(|| format!("connected to {place}"));
        let implicit = self.tls.clone().filter(|_| *security == Security::Tls);
        let greeted = within(limits.greeting, line::greet(tcp, implicit, &hello_name)).await;
        let mut smtp = greeted.map_err(|fault| not("the mail server did not answer as it should at", &fault))?;
        steps.note(|| format!("greeted by {}", smtp.server_info().name()));
        if *security == Security::StartTls {
            if !smtp.can_starttls() {
                return Err(not(
                    "no mail goes over a line in clear, and STARTTLS is not offered by",
                    &"see mail.security",
                ));
            }
            let Some(tls) = self.tls.clone() else { return Err(not("no TLS for", &"a mistake of the program")) };
            let encrypted = within(limits.greeting, smtp.starttls(tls, &hello_name)).await;
            encrypted.map_err(|fault| not("cannot encrypt the line to", &fault))?;
        }
        if *security != Security::None {
            steps.note(|| "encrypted with TLS, certificate verified".to_owned());
        }
        if let Some(Login { user, password }) = login {
            let credentials = Credentials::new(user.clone(), password.clone());
            let answer = within(limits.greeting, smtp.auth(&[Mechanism::Plain, Mechanism::Login], &credentials)).await;
            let answer = answer.map_err(|fault| not("the login was refused by", &fault))?;
            if !answer.has_code(235) {
                return Err(not("the login was not confirmed by", &said(&answer)));
            }
            steps.note(|| format!("logged in: {}", said(&answer)));
        }
        Ok(Line { smtp, mails: 0 })
    }
}

fn tls(settings: &SmtpSettings) -> Result<TlsParameters, MailError> {
    let cannot = |why: &dyn Display| MailError::Transport(format!("TLS cannot be set up: {why}"));
    let mut tls = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        let wrong = |why: &dyn Display| cannot(&format!("mail.caFile {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
        let authorities = Certificate::from_pem(&pem).map_err(|error| wrong(&error))?;
        tls = tls.certificate_store(CertificateStore::None).add_root_certificate(authorities);
    }
    tls.build().map_err(|error| cannot(&error))
}

/// A line on which the server is ready for the next mail.
struct Line {
    smtp: AsyncSmtpConnection,
    /// Mails offered on it so far.
    mails: u32,
}

impl Line {
    async fn hang_up(mut self, limit: Duration) {
        // Nothing depends on what is said now.
        let _ = timeout(limit, self.smtp.quit()).await;
    }
}

/// Why a step did not go as it should.
enum Fault {
    /// The server said no, in order: the line is as good as before.
    No(u16, String),
    /// It said nothing, or nothing that makes sense: the line is to be dropped.
    Broken(String),
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::No(_, said) | Self::Broken(said)) = self;
        f.write_str(said)
    }
}

impl From<lettre::transport::smtp::Error> for Fault {
    fn from(error: lettre::transport::smtp::Error) -> Self {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        match error.status() {
            Some(code) => Self::No(code.into(), format!("{code} {}", source.unwrap_or_default()).trim_end().to_owned()),
            None => Self::Broken(source.unwrap_or_else(|| error.to_string())),
        }
    }
}

async fn within<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, Fault> {
    match timeout(limit, step).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Fault::Broken(format!("no answer within {} s", limit.as_secs_f32()))),
    }
}

fn said(answer: &Response) -> String {
    let text: Vec<&str> = answer.message().collect();
    format!("{} {}", answer.code(), text.join(" ")).trim_end().to_owned()
}

/// Mail after mail, on one line while it is good, else on a new one.
pub struct Conversation {
    server: Arc<SmtpServer>,
    line: Option<Line>,
    steps: Steps,
}

impl Conversation {
    /// The same, with its steps noted.
    pub fn noted(self) -> Self {
        Self { steps: Steps::noted(), ..self }
    }

    /// What was said so far, if it is noted.
    pub fn steps(&self) -> &[String] {
        self.steps.list()
    }

    /// Sends one mail, if there is time to hear of it before `deadline`.
    pub async fn send(&mut self, mail: &Outgoing<'_>, deadline: Instant) -> Result<(), MailError> {
        let from = Mail::new(Some(parse_address(mail.from)?), Vec::new());
        let to = Rcpt::new(parse_address(mail.to)?, Vec::new());
        let mut line = self.ready_line(&from).await?;
        let told = talk(&mut line, to, mail.bytes, deadline, &self.server.settings.limits, &mut self.steps).await;
        let told = match told {
            Err(Refusal { error, line_is_good: false }) => return Err(error),
            told => told.map_err(|refusal| refusal.error),
        };
        if line.mails < self.server.settings.messages_per_connection {
            self.line = Some(line);
        } else {
            line.hang_up(self.server.settings.limits.farewell).await;
        }
        told
    }

    /// Ends the conversation.
    pub async fn end(mut self) {
        if let Some(line) = self.line.take() {
            line.hang_up(self.server.settings.limits.farewell).await;
        }
    }

    /// A line on which the server has taken the sender of the next mail.
    ///
    /// A line that was used before may have been closed since: then a new one is tried. What a new line is refused is refused
    /// to all mails, since they come from one sender.
    async fn ready_line(&mut self, from: &Mail) -> Result<Line, MailError> {
        let limit = self.server.settings.limits.command;
        if let Some(mut line) = self.line.take()
            && take_sender(&mut line, from, limit, &mut self.steps).await.is_ok()
        {
            return Ok(line);
        }
        let mut line = self.server.connect(&mut self.steps).await?;
        match take_sender(&mut line, from, limit, &mut self.steps).await {
            Ok(()) => Ok(line),
            Err(fault) => Err(MailError::Transport(format!("the mail server does not take mails from us: {fault}"))),
        }
    }
}

async fn take_sender(line: &mut Line, from: &Mail, limit: Duration, steps: &mut Steps) -> Result<(), Fault> {
    line.mails += 1;
    let answer = within(limit, line.smtp.command(from)).await?;
    steps.note(|| format!("sender taken: {}", said(&answer)));
    if is_2xx(&answer) { Ok(()) } else { Err(Fault::Broken(format!("{} is no answer to MAIL", said(&answer)))) }
}

/// Why a mail was not sent, and whether the next one can go over the same line.
struct Refusal {
    error: MailError,
    line_is_good: bool,
}

impl Refusal {
    fn broken(error: MailError) -> Self {
        Self { error, line_is_good: false }
    }
}

/// What the server said to a mail, by whether it is about this mail or about all of them.
fn no(code: u16, said: String) -> MailError {
    match code {
        // It closes the line, or wants another login: nothing to do with this mail.
        421 | 454 | 530 | 534 | 535 | 538 => MailError::Transport(said),
        400..=499 => MailError::Deferred(said),
        _ => MailError::Refused(said),
    }
}

/// From the recipient to the last answer, on a line that has taken the sender.
async fn talk(
    line: &mut Line,
    to: Rcpt,
    message: &[u8],
    deadline: Instant,
    limits: &Limits,
    steps: &mut Steps,
) -> Result<(), Refusal> {
    match within(limits.command, line.smtp.command(to)).await {
        Ok(answer) if is_2xx(&answer) => steps.note(|| format!("recipient taken: {}", said(&answer))),
        Ok(answer) => {
            return Err(Refusal::broken(MailError::Broken(format!("{} is no answer to RCPT", said(&answer)))));
        }
        // The standard's word for a full mailbox, which may be emptied, whatever its first digit says.
        Err(Fault::No(552, said)) => return Err(take_back(line, MailError::Deferred(said), limits).await),
        Err(Fault::No(code, said)) => return Err(take_back(line, no(code, said), limits).await),
        Err(Fault::Broken(why)) => return Err(Refusal::broken(MailError::Broken(why))),
    }
    if Instant::now() + limits.point_of_no_return() > deadline {
        let late = MailError::Late("it waited too long for its turn".into());
        return Err(take_back(line, late, limits).await);
    }
    match within(limits.command, line.smtp.command(Data)).await {
        Ok(answer) if answer.has_code(354) => {}
        Ok(answer) => {
            return Err(Refusal::broken(MailError::Broken(format!("{} is no answer to DATA", said(&answer)))));
        }
        Err(Fault::No(code, said)) => return Err(take_back(line, no(code, said), limits).await),
        Err(Fault::Broken(why)) => return Err(Refusal::broken(MailError::Broken(why))),
    }
    match hand_over(line, message, limits).await {
        Handed::All(Ok(answer)) if is_2xx(&answer) => {
            steps.note(|| format!("message taken: {}", said(&answer)));
            Ok(())
        }
        Handed::All(Ok(answer)) => Err(Refusal::broken(MailError::Unknown(format!(
            "the mail server answered the whole message with {}, so it may have taken it",
            said(&answer)
        )))),
        Handed::All(Err(Fault::No(code, said))) | Handed::Partly(Fault::No(code, said)) => {
            let error = no(code, said);
            let line_is_good = !matches!(error, MailError::Transport(_));
            Err(Refusal { error, line_is_good })
        }
        Handed::All(Err(Fault::Broken(why))) => Err(Refusal::broken(MailError::Unknown(format!(
            "the mail server had the whole message and may have taken it: {why}"
        )))),
        Handed::Partly(Fault::Broken(why)) => Err(Refusal::broken(MailError::Broken(why))),
    }
}

/// Makes the server forget a mail that it has not got yet, so that the line can serve the next.
async fn take_back(line: &mut Line, error: MailError, limits: &Limits) -> Refusal {
    let closed = matches!(error, MailError::Transport(_));
    let forgotten = match closed {
        true => false,
        false => within(limits.command, line.smtp.command(Rset)).await.is_ok_and(|answer| is_2xx(&answer)),
    };
    Refusal { error, line_is_good: forgotten }
}

/// How far a message got.
enum Handed {
    /// The server may have seen its end.
    All(Result<Response, Fault>),
    /// Its end was not sent.
    Partly(Fault),
}

async fn hand_over(line: &mut Line, message: &[u8], limits: &Limits) -> Handed {
    const PIECE: usize = 64 * 1024;
    let handed = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    // The next piece is asked for when the last one is gone; after the last, the end is sent.
    let mut pieces = message.chunks(PIECE);
    let pieces = std::iter::from_fn(|| {
        let piece = pieces.next();
        handed.store(piece.is_none(), order);
        piece
    });
    let mut answer = std::pin::pin!(line.smtp.message_iter(pieces));
    let outcome = match timeout(limits.body, &mut answer).await {
        Ok(answer) => answer.map_err(Fault::from),
        Err(_) if handed.load(order) => within(limits.last, answer).await,
        Err(_) => Err(Fault::Broken(format!("the message was not taken within {} s", limits.body.as_secs_f32()))),
    };
    match outcome {
        Err(fault) if !handed.load(order) => Handed::Partly(fault),
        outcome => Handed::All(outcome),
    }
}

fn is_2xx(answer: &Response) -> bool {
    (200..300).contains(&u16::from(answer.code()))
}
