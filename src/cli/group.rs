//! `billday group`: billing groups and their members.

use clap::{Args, Subcommand};

use crate::change::groups::{self, GroupPatch, GroupView, IfMatch, NewGroup};
use crate::change::{NotMade, Refusal, settled, transact};
use crate::input::value::{Object, Value};
use crate::store::groups::{GroupFilter, GroupRow};
use crate::store::{Session, Store, TxFuture};

use super::{App, Exit, Wrong, one_tenant, table};

#[derive(Subcommand)]
pub(super) enum GroupCommand {
    /// All groups, with how many members each has
    List {
        /// Only this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// One group and its members
    Show {
        group: String,
        /// Its tenant, if several have the id
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Bill rentals of one customer together
    Create(CreateArgs),
    /// Change a group; what is not named stays
    Update(UpdateArgs),
    /// Remove a group: its members are billed alone from now on, its payments stay
    Delete {
        group: String,
        /// Its tenant, if several have the id
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// The tenant
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// Whose rentals they are
    #[arg(long, value_name = "ID")]
    customer: String,
    /// What the group is called
    #[arg(long, value_name = "TEXT")]
    name: String,
    /// The day of the month on which it is billed, 1 to 28
    #[arg(long, value_name = "DAY")]
    day: String,
    /// A rental in it; may be repeated
    #[arg(long = "rental", value_name = "ID", required = true)]
    rentals: Vec<String>,
    /// A note, for people
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
}

#[derive(Args)]
pub(super) struct UpdateArgs {
    group: String,
    /// Its tenant, if several have the id
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// What the group is called
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// The day of the month on which it is billed, 1 to 28
    #[arg(long, value_name = "DAY")]
    day: Option<String>,
    /// A rental in it; may be repeated, and members that are not named leave
    #[arg(long = "rental", value_name = "ID")]
    rentals: Vec<String>,
    /// Let all members leave
    #[arg(long, conflicts_with = "rentals")]
    no_rentals: bool,
    /// active, or inactive: then its members are billed alone until it is active again
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// A note, for people; an empty one removes it
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
}

pub(super) async fn group(app: &App, command: GroupCommand) -> anyhow::Result<Exit> {
    match command {
        GroupCommand::List { tenant } => list(app, tenant).await,
        GroupCommand::Show { group, tenant } => show(app, group, tenant).await,
        GroupCommand::Create(args) => create(app, args).await,
        GroupCommand::Update(args) => update(app, args).await,
        GroupCommand::Delete { group, tenant } => delete(app, group, tenant).await,
    }
}

async fn list(app: &App, tenant_id: Option<String>) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    let groups = session.list_groups(&GroupFilter { tenant_id, billing_group_id: None }).await?;
    session.end().await;
    if groups.is_empty() {
        eprintln!("there is no billing group");
        return Ok(Exit::Done);
    }
    write(&groups)?;
    Ok(Exit::Done)
}

async fn show(app: &App, group: String, tenant: Option<String>) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    let groups = session.list_groups(&GroupFilter { tenant_id: None, billing_group_id: Some(group.clone()) }).await?;
    let having: Vec<String> = groups.iter().map(|g| g.tenant_id.clone()).collect();
    let tenant_id = one_tenant(tenant.as_deref(), &having, &format!("group {group}"))?;
    let members = session.list_member_ids(&tenant_id, &group).await?;
    session.end().await;
    write(&groups.into_iter().filter(|g| g.tenant_id == tenant_id).collect::<Vec<_>>())?;
    println!("members: {}", if members.is_empty() { "none".to_owned() } else { members.join(", ") });
    Ok(Exit::Done)
}

fn write(groups: &[GroupRow]) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|g| {
            vec![
                g.tenant_id.clone(),
                g.billing_group_id.clone(),
                g.group_name.clone(),
                g.customer_id.clone(),
                g.billing_day.to_string(),
                g.status.clone(),
                g.members.to_string(),
            ]
        })
        .collect();
    table::write(&mut std::io::stdout(), &["TENANT", "GROUP", "NAME", "CUSTOMER", "DAY", "STATUS", "MEMBERS"], &rows)
}

/// The fields of a request as the API would be sent it, so that both read them by the same rules.
#[derive(Default)]
pub(super) struct Fields(pub(super) Object);

impl Fields {
    pub(super) fn text(mut self, name: &str, text: Option<String>) -> Self {
        self.0.extend(text.map(|text| (name.to_owned(), Value::Text(text))));
        self
    }

    /// A number as it was typed; what is none is refused as it would be there.
    fn number(mut self, name: &str, text: Option<String>) -> Self {
        let value = |text: String| match serde_json::from_str(&text) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::Text(text),
        };
        self.0.extend(text.map(|text| (name.to_owned(), value(text))));
        self
    }

    fn texts(mut self, name: &str, texts: Option<Vec<String>>) -> Self {
        let list = |texts: Vec<String>| Value::List(texts.into_iter().map(Value::Text).collect());
        self.0.extend(texts.map(|texts| (name.to_owned(), list(texts))));
        self
    }
}

/// The work of one change.
type Made<'a> = TxFuture<'a, Result<GroupView, Refusal>>;

async fn create(app: &App, args: CreateArgs) -> anyhow::Result<Exit> {
    let fields = Fields::default()
        .text("customerId", Some(args.customer))
        .text("groupName", Some(args.name))
        .number("billingDay", Some(args.day))
        .texts("rentalIds", Some(args.rentals))
        .text("notes", args.notes);
    let new = NewGroup::read(&fields.0, Vec::new()).map_err(refused)?;
    let store = app.store().await?;
    let mut session = store.read().await?;
    if session.find_tenant(&args.tenant).await?.is_none() {
        return Err(Wrong(format!("there is no tenant {}", args.tenant)).into());
    }
    session.end().await;
    let by = app.by(args.tenant);
    let created = transact(&store, move |tx: &mut Session| {
        let (by, new) = (by.clone(), new.clone());
        Box::pin(async move { settled(groups::create(tx, &by, &new).await) }) as Made<'_>
    });
    let created = created.await.map_err(not_made)?;
    store.close().await;
    println!("created group {}: {}", created.billing_group_id, told(&created));
    Ok(Exit::Done)
}

async fn update(app: &App, args: UpdateArgs) -> anyhow::Result<Exit> {
    let rentals = (args.no_rentals || !args.rentals.is_empty()).then_some(args.rentals);
    let fields = Fields::default()
        .text("groupName", args.name)
        .number("billingDay", args.day)
        .texts("rentalIds", rentals)
        .text("status", args.status)
        .text("notes", args.notes);
    let patch = GroupPatch::read(&fields.0, Vec::new()).map_err(refused)?;
    let store = app.store().await?;
    let by = app.by(tenant_having(&store, &args.group, args.tenant).await?);
    let id = args.group.clone();
    let updated = transact(&store, move |tx: &mut Session| {
        let (by, id, patch) = (by.clone(), id.clone(), patch.clone());
        Box::pin(async move { settled(groups::update(tx, &by, &id, &patch, &IfMatch::Any).await) }) as Made<'_>
    });
    let updated = updated.await.map_err(not_made)?;
    store.close().await;
    println!("group {} is now: {}", args.group, told(&updated));
    Ok(Exit::Done)
}

async fn delete(app: &App, group: String, tenant: Option<String>) -> anyhow::Result<Exit> {
    let store = app.store().await?;
    let by = app.by(tenant_having(&store, &group, tenant).await?);
    let id = group.clone();
    let deleted = transact(&store, move |tx: &mut Session| {
        let (by, id) = (by.clone(), id.clone());
        Box::pin(async move { settled(groups::delete(tx, &by, &id, &IfMatch::Any).await) }) as Made<'_>
    });
    deleted.await.map_err(not_made)?;
    store.close().await;
    println!("deleted group {group}; its members are billed alone, its payments stay");
    Ok(Exit::Done)
}

async fn tenant_having(store: &Store, group: &str, tenant: Option<String>) -> anyhow::Result<String> {
    let mut session = store.read().await?;
    let filter = GroupFilter { tenant_id: None, billing_group_id: Some(group.to_owned()) };
    let groups = session.list_groups(&filter).await?;
    session.end().await;
    let having: Vec<String> = groups.iter().map(|g| g.tenant_id.clone()).collect();
    one_tenant(tenant.as_deref(), &having, &format!("group {group}"))
}

fn told(group: &GroupView) -> String {
    format!(
        "'{}' of customer {}, day {}, {}, {} {} a month for {} of {} rentals",
        group.group_name,
        group.customer_id,
        group.billing_day,
        group.status,
        group.total_monthly_amount,
        group.currency,
        group.active_rental_count,
        group.rental_ids.len(),
    )
}

pub(super) fn not_made(not_made: NotMade) -> anyhow::Error {
    match not_made {
        NotMade::Refused(refusal) => refused(refusal),
        NotMade::Store(error) => error.into(),
    }
}

/// A refusal with the code that the API would send, and each thing that is wrong.
pub(super) fn refused(refusal: Refusal) -> anyhow::Error {
    let mut message = format!("{}: {}", refusal.code, refusal.message);
    if refusal.details.len() > 1 {
        let lines = refusal.details.iter().map(|problem| format!("\n  {}: {}", problem.path, problem.message));
        message.extend(lines);
    }
    Wrong(message).into()
}
