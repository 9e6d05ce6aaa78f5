//! `billday group`: billing groups and their members.

use clap::Subcommand;

use crate::store::groups::{GroupFilter, GroupRow};

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
    /// Remove a group: its members are billed alone from now on, its payments stay
    Delete {
        group: String,
        /// Its tenant, if several have the id
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
}

pub(super) async fn group(app: &App, command: GroupCommand) -> anyhow::Result<Exit> {
    match command {
        GroupCommand::List { tenant } => list(app, tenant).await,
        GroupCommand::Show { group, tenant } => show(app, group, tenant).await,
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

async fn delete(app: &App, group: String, tenant: Option<String>) -> anyhow::Result<Exit> {
    let store = app.store().await?;
    let mut session = store.read().await?;
    let groups = session.list_groups(&GroupFilter { tenant_id: None, billing_group_id: Some(group.clone()) }).await?;
    session.end().await;
    let having: Vec<String> = groups.iter().map(|g| g.tenant_id.clone()).collect();
    let tenant_id = one_tenant(tenant.as_deref(), &having, &format!("group {group}"))?;
    let (id, now) = (group.clone(), app.now_micros());
    let deleted = store.with_tx(move |tx| Box::pin(async move { tx.delete_group(&tenant_id, &id, now).await })).await?;
    if !deleted {
        return Err(Wrong(format!("group {group} is gone already")).into());
    }
    println!("deleted group {group}; its members are billed alone, its payments stay");
    Ok(Exit::Done)
}
