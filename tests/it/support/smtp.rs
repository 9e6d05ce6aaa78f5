//! A mail server that does as it is told, for good and ill, and keeps a log that is the witness of what it took.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use billday::mail::smtp::{Limits, Login, Security, SmtpSettings};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::random::Random;

/// Where in a conversation something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    Greeting,
    Hello,
    Login,
    Sender,
    Recipient,
    Data,
    /// The whole message was read; a server that answers well here has taken it.
    Message,
}

/// What goes wrong, once.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This answer, such as `451 later`, instead of the right one.
    Say(&'static str),
    /// No answer, and the line stays open.
    Stall,
    /// The line is closed without a word.
    HangUp,
    /// The mail is taken, and the line closed without a word; only after the message.
    TakeAndHangUp,
    /// The mail is taken, and no answer comes; only after the message.
    TakeAndStall,
    /// The right answer, a byte at a time, with a pause before each.
    Slowly(Duration),
    /// Lines of an answer without an end.
    Endless,
    /// One line of an answer without an end.
    EndlessLine,
    /// The right answer, in more than 100 kB.
    Long,
    /// An answer that is none.
    Nonsense,
    /// The line is closed in the midst of a message.
    HangUpInMessage,
}

/// A mail that the server took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: String,
    pub message: String,
}

impl Taken {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.message.split_once("\r\n\r\n")?;
        head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn message_id(&self) -> &str {
        self.header("Message-ID").expect("a Message-ID")
    }
}

#[derive(Default)]
struct State {
    faults: VecDeque<(At, Fault)>,
    taken: Vec<Taken>,
    connections: usize,
    commands: Vec<String>,
    trouble: Option<(usize, Random)>,
    /// Whom to kill, and when.
    death: Option<(Moment, u32)>,
}

/// A moment in a conversation at which a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The server was told, and has not answered.
    Before(At),
    /// It has answered.
    After(At),
}

/// How many steps in a thousand fail on an unreliable server.
const TROUBLE_PER_MILLE: u64 = 150;

/// A fault that can happen at a step.
fn any_fault(random: &mut Random, at: At) -> Fault {
    // Those that take time are rarer.
    let slow = random.below(8) == 0;
    match (at, random.below(if slow { 3 } else { 9 })) {
        (_, 0) if slow => Fault::Stall,
        (At::Message, 1) if slow => Fault::TakeAndStall,
        (_, _) if slow => Fault::Slowly(Duration::from_millis(2)),
        (At::Message, 0) => Fault::TakeAndHangUp,
        (At::Message, 1) => Fault::HangUpInMessage,
        (At::Message, 2) => Fault::Say("550 5.7.1 no"),
        (At::Recipient | At::Data, 0) => Fault::Say("250 2.0.0 what"),
        (At::Recipient, 1) => Fault::Say("550 5.1.1 nobody"),
        (_, 0..=2) => Fault::HangUp,
        (_, 3) => Fault::Say("421 busy"),
        (_, 4) => Fault::Say("451 later"),
        (_, 5) => Fault::Say("452 full"),
        (_, 6) => Fault::Say("354 what"),
        (_, 7) => Fault::Nonsense,
        (_, _) => Fault::Long,
    }
}

/// How a server differs from a good one in clear.
#[derive(Clone, Default)]
pub struct Manner {
    /// Encrypts from the first byte, or after STARTTLS.
    pub tls: Option<(Security, TlsAcceptor)>,
    pub wants_login: bool,
    /// Says, in clear and in one breath with the answer to STARTTLS, what belongs after it.
    pub slips_in: bool,
}

pub struct MailServer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub const USER: &str = "billday";
pub const PASSWORD: &str = "s3cret";

impl MailServer {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener, manner)
    }

    fn on(listener: TcpListener, manner: Manner) -> Self {
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            // Conversations end with the server.
            let mut conversations = tokio::task::JoinSet::new();
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                while conversations.try_join_next().is_some() {}
                shared.lock().expect("the state").connections += 1;
                let server = Server { state: Arc::clone(&shared), manner: manner.clone() };
                // A client that goes away is what many tests are about.
                conversations.spawn(async move {
                    let _ = server.serve(tcp).await;
                });
            }
        });
        Self { address, state, task }
    }

    /// The next time that a conversation comes to `at`, this happens instead.
    pub fn fail(&self, at: At, fault: Fault) {
        self.state.lock().expect("the state").faults.push_back((at, fault));
    }

    /// From now on anything may happen at any step, until `faults` have happened.
    pub fn be_unreliable(&self, faults: usize, random: Random) {
        self.state.lock().expect("the state").trouble = Some((faults, random));
    }

    /// How many of the faults of [`be_unreliable`](Self::be_unreliable) are to come.
    pub fn trouble_left(&self) -> usize {
        self.state.lock().expect("the state").trouble.as_ref().map_or(0, |(left, _)| *left)
    }

    /// Kills a process at a moment, the first time that one comes after all faults have happened.
    pub fn kill_at(&self, moment: Moment, pid: u32) {
        self.state.lock().expect("the state").death = Some((moment, pid));
    }

    /// Takes that back; tells whether it was to come yet.
    pub fn spare(&self) -> bool {
        self.state.lock().expect("the state").death.take().is_some()
    }

    pub fn faults_left(&self) -> usize {
        self.state.lock().expect("the state").faults.len()
    }

    pub fn forget_faults(&self) {
        self.state.lock().expect("the state").faults.clear();
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.state.lock().expect("the state").taken.clone()
    }

    pub fn connections(&self) -> usize {
        self.state.lock().expect("the state").connections
    }

    /// The commands so far, without what stands after them.
    pub fn commands(&self) -> Vec<String> {
        self.state.lock().expect("the state").commands.clone()
    }

    /// Settings that reach it, with limits so short that a stall is soon over.
    pub fn settings(&self) -> SmtpSettings {
        SmtpSettings {
            host: "127.0.0.1".into(),
            port: self.address.port(),
            security: Security::None,
            login: None,
            hello_name: "billday.example".into(),
            ca_file: None,
            messages_per_connection: 20,
            limits: short_limits(),
        }
    }

    /// Settings that reach it encrypted, as the user that it knows.
    pub fn settings_encrypted(&self, security: Security, ca_file: PathBuf) -> SmtpSettings {
        let login = Some(Login { user: USER.into(), password: PASSWORD.into() });
        SmtpSettings { host: "localhost".into(), security, login, ca_file: Some(ca_file), ..self.settings() }
    }
}

/// So long that a busy machine is not taken for a stall.
pub fn short_limits() -> Limits {
    let short = Duration::from_millis(1_500);
    Limits { greeting: short, command: short, body: 2 * short, last: short, farewell: Duration::from_millis(100) }
}

/// A certificate for localhost, signed by an authority of its own, whose certificate is written to `ca_file`.
pub fn acceptor(ca_file: &std::path::Path) -> TlsAcceptor {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let authority = rcgen::CertifiedIssuer::self_signed(authority, authority_key).expect("an authority");
    std::fs::write(ca_file, authority.pem()).expect("a file");
    let key = rcgen::KeyPair::generate().expect("a key");
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let certificate = server.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a server");
    TlsAcceptor::from(Arc::new(config))
}

trait Line: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

struct Server {
    state: Arc<Mutex<State>>,
    manner: Manner,
}

/// The conversation is over.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

impl Server {
    fn fault(&self, at: At) -> Option<Fault> {
        let mut state = self.state.lock().expect("the state");
        if state.faults.front().is_some_and(|(place, _)| *place == at) {
            return state.faults.pop_front().map(|(_, fault)| fault);
        }
        let (left, random) = state.trouble.as_mut()?;
        if *left == 0 || random.below(1_000) >= TROUBLE_PER_MILLE {
            return None;
        }
        *left -= 1;
        Some(any_fault(random, at))
    }

    fn come_to(&self, moment: Moment) {
        let mut state = self.state.lock().expect("the state");
        let due = state.faults.is_empty() && state.death.is_some_and(|(when, _)| when == moment);
        if due && let Some((_, pid)) = state.death.take() {
            super::postgres::signal("-KILL", pid);
        }
    }

    async fn serve(&self, tcp: TcpStream) -> Result<(), Over> {
        let mut line: BufReader<Box<dyn Line>> = match &self.manner.tls {
            Some((Security::Tls, acceptor)) => BufReader::new(Box::new(acceptor.accept(tcp).await?)),
            _ => BufReader::new(Box::new(tcp)),
        };
        let mut encrypted = matches!(self.manner.tls, Some((Security::Tls, _)));
        self.answer(&mut line, At::Greeting, "220 mail.example ready\r\n").await?;
        let (mut from, mut to) = (String::new(), String::new());
        loop {
            let mut command = String::new();
            if line.read_line(&mut command).await? == 0 {
                return Ok(());
            }
            let (verb, rest) = command.trim_end().split_once([' ', ':']).unwrap_or((command.trim_end(), ""));
            let verb = verb.to_ascii_uppercase();
            self.state.lock().expect("the state").commands.push(verb.clone());
            match verb.as_str() {
                "EHLO" => {
                    let mut answer = "250-mail.example\r\n".to_owned();
                    if let (Some((Security::StartTls, _)), false) = (&self.manner.tls, encrypted) {
                        answer += "250-STARTTLS\r\n";
                    }
                    if self.manner.wants_login && encrypted {
                        answer += "250-AUTH PLAIN LOGIN\r\n";
                    }
                    self.answer(&mut line, At::Hello, &(answer + "250 8BITMIME\r\n")).await?;
                }
                "STARTTLS" => {
                    let Some((_, acceptor)) = self.manner.tls.clone() else {
                        line.write_all(b"502 no\r\n").await?;
                        continue;
                    };
                    let slipped = if self.manner.slips_in { "250-slipped in\r\n250 AUTH PLAIN\r\n" } else { "" };
                    line.write_all(format!("220 go ahead\r\n{slipped}").as_bytes()).await?;
                    let stream = acceptor.accept(line.into_inner()).await?;
                    line = BufReader::new(Box::new(stream));
                    encrypted = true;
                }
                "AUTH" => {
                    let wanted = data_encoding::BASE64.encode(format!("\0{USER}\0{PASSWORD}").as_bytes());
                    let right = rest == format!("PLAIN {wanted}");
                    let answer = if right { "235 welcome\r\n" } else { "535 5.7.8 wrong credentials\r\n" };
                    self.answer(&mut line, At::Login, answer).await?;
                }
                "MAIL" => {
                    from = address(rest);
                    self.answer(&mut line, At::Sender, "250 ok\r\n").await?;
                }
                "RCPT" => {
                    to = address(rest);
                    self.answer(&mut line, At::Recipient, "250 ok\r\n").await?;
                }
                "DATA" => {
                    if self.answer(&mut line, At::Data, "354 go on\r\n").await? {
                        let fault = self.fault(At::Message);
                        let hang_up = matches!(fault, Some(Fault::HangUpInMessage));
                        let message = self.message(&mut line, hang_up).await?;
                        self.take(&mut line, Taken { from: from.clone(), to: to.clone(), message }, fault).await?;
                    }
                }
                "RSET" | "NOOP" => line.write_all(b"250 ok\r\n").await?,
                "QUIT" => {
                    line.write_all(b"221 bye\r\n").await?;
                    return Ok(());
                }
                // The rest of a message that was never asked for, say.
                _ => line.write_all(b"500 what?\r\n").await?,
            }
            line.flush().await?;
        }
    }

    /// Answers a step, or fails at it; tells whether the answer was the right one.
    async fn answer(&self, line: &mut BufReader<Box<dyn Line>>, at: At, right: &str) -> Result<bool, Over> {
        self.come_to(Moment::Before(at));
        let Some(fault) = self.fault(at) else {
            line.write_all(right.as_bytes()).await?;
            line.flush().await?;
            self.come_to(Moment::After(at));
            return Ok(true);
        };
        self.do_wrong(line, fault, right).await
    }

    async fn do_wrong(&self, line: &mut BufReader<Box<dyn Line>>, fault: Fault, right: &str) -> Result<bool, Over> {
        match fault {
            Fault::Say(words) => {
                line.write_all(format!("{words}\r\n").as_bytes()).await?;
                line.flush().await?;
                return if words.starts_with("421") { Err(Over) } else { Ok(false) };
            }
            Fault::Nonsense => line.write_all(b"hello there\r\n").await?,
            Fault::Slowly(pause) => {
                for byte in right.as_bytes() {
                    tokio::time::sleep(pause).await;
                    line.write_all(&[*byte]).await?;
                    line.flush().await?;
                }
                return Ok(true);
            }
            Fault::Long => {
                let code = &right[..3];
                let filler = format!("{code}-{}\r\n", "x".repeat(500));
                line.write_all((filler.repeat(250) + right).as_bytes()).await?;
            }
            Fault::Endless | Fault::EndlessLine => {
                let end = if matches!(fault, Fault::Endless) { "\r\n" } else { "" };
                loop {
                    line.write_all(format!("{}-{}{end}", &right[..3], "x".repeat(500)).as_bytes()).await?;
                }
            }
            Fault::Stall | Fault::TakeAndStall => {
                // Until the client gives up.
                let mut rest = Vec::new();
                line.read_to_end(&mut rest).await?;
                return Err(Over);
            }
            Fault::HangUp | Fault::TakeAndHangUp | Fault::HangUpInMessage => return Err(Over),
        }
        line.flush().await?;
        Ok(false)
    }

    async fn take(&self, line: &mut BufReader<Box<dyn Line>>, mail: Taken, fault: Option<Fault>) -> Result<(), Over> {
        // What it says after that does not change that it took the mail.
        let takes = match &fault {
            None | Some(Fault::TakeAndHangUp | Fault::TakeAndStall | Fault::Slowly(_) | Fault::Long) => true,
            Some(Fault::Say(words)) => words.starts_with("354"),
            Some(_) => false,
        };
        if takes {
            self.state.lock().expect("the state").taken.push(mail);
        }
        self.come_to(Moment::Before(At::Message));
        match fault {
            None => {
                line.write_all(b"250 taken\r\n").await?;
                line.flush().await?;
                self.come_to(Moment::After(At::Message));
            }
            Some(fault) => {
                self.do_wrong(line, fault, "250 taken\r\n").await?;
            }
        }
        Ok(line.flush().await?)
    }

    async fn message(&self, line: &mut BufReader<Box<dyn Line>>, hang_up: bool) -> Result<String, Over> {
        let mut message = String::new();
        if hang_up {
            line.read_line(&mut message).await?;
            return Err(Over);
        }
        loop {
            let start = message.len();
            if line.read_line(&mut message).await? == 0 {
                return Err(Over);
            }
            if &message[start..] == ".\r\n" {
                message.truncate(start);
                return Ok(message);
            }
            if message[start..].starts_with('.') {
                message.remove(start);
            }
        }
    }
}

/// What stands between the angle brackets.
fn address(rest: &str) -> String {
    rest.split(['<', '>']).nth(1).unwrap_or_default().to_owned()
}
