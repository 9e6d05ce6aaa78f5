//! How mails go out, as the settings say; and a mail to try it with.

use clap::Subcommand;

use crate::config::{Config, Mail, MailSecurity, MailTransport};
use crate::deliver::{DeliverySettings, Route, random_chance};
use crate::mail::smtp::{Limits, Login, Security, SmtpServer, SmtpSettings, Steps};

use super::{App, Exit, Wrong};

#[derive(Subcommand)]
pub(super) enum MailCommand {
    /// Send a small mail to an address, and tell what the mail server answered
    Test { address: String },
}

pub(super) async fn mail(app: &App, command: MailCommand) -> anyhow::Result<Exit> {
    match command {
        MailCommand::Test { address } => test(app, &address).await,
    }
}

/// How mails are delivered by these settings.
pub(super) fn delivery_settings(config: &Config) -> anyhow::Result<DeliverySettings> {
    let mail = &config.mail;
    Ok(DeliverySettings {
        route: match mail.transport {
            MailTransport::None => Route::Nowhere,
            MailTransport::Folder => Route::Folder(mail.folder.clone()),
            MailTransport::Smtp => {
                Route::Smtp { server: smtp_settings(mail), connections: mail.connections, per_minute: mail.per_minute }
            }
        },
        from: mail.from.clone(),
        message_id_domain: mail.message_id_domain.clone(),
        templates: Some(mail.templates.clone()),
        redirect_to: mail.redirect_to.clone(),
        when_unknown: mail.when_unknown,
        chance: random_chance,
        documents: super::documents(config)?,
    })
}

fn smtp_settings(mail: &Mail) -> SmtpSettings {
    let domain = mail.from.rsplit_once('@').map(|(_, domain)| domain.to_owned());
    let login = mail.user.clone().zip(mail.password.as_ref());
    SmtpSettings {
        host: mail.host.clone(),
        port: mail.port,
        security: match mail.security {
            MailSecurity::StartTls => Security::StartTls,
            MailSecurity::Tls => Security::Tls,
            MailSecurity::None => Security::None,
        },
        login: login.map(|(user, password)| Login { user, password: password.reveal().to_owned() }),
        hello_name: mail.hello_name.clone().or(domain).unwrap_or_else(|| "localhost".to_owned()),
        ca_file: mail.ca_file.clone(),
        messages_per_connection: mail.messages_per_connection,
        limits: Limits::default(),
    }
}

/// Greets the mail server and takes leave; tells who it is.
pub(super) async fn greet(mail: &Mail) -> anyhow::Result<()> {
    let (steps, greeted) = try_server(mail).await;
    for step in steps {
        println!("mail: {step}");
    }
    greeted
}

/// Greets the mail server and takes leave: what it answered, and whether mails could be sent.
pub(super) async fn try_server(mail: &Mail) -> (Vec<String>, anyhow::Result<()>) {
    let mut steps = Steps::noted();
    let greeted = match SmtpServer::new(smtp_settings(mail)) {
        Ok(server) => server.greet(&mut steps).await,
        Err(error) => Err(error),
    };
    (steps.list().iter().map(ToString::to_string).collect(), greeted.map_err(Into::into))
}

async fn test(app: &App, address: &str) -> anyhow::Result<Exit> {
    let settings = delivery_settings(&app.config)?;
    let now = app.clock.now();
    let (answers, sent) =
        crate::deliver::send_trial(&settings, address, now).await.map_err(|error| Wrong(error.to_string()))?;
    for answer in answers {
        println!("{answer}");
    }
    sent?;
    Ok(Exit::Done)
}
