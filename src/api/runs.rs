//! `/v1/runs`: what was run, and asking for a run.

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::{Value, json as schema};

use crate::change::{self, NotMade, Refusal, RefusalKind, settled};
use crate::clock;
use crate::domain::{Tenant, timekeeping};
use crate::input::value::Object;
use crate::input::{Problem, Reader};
use crate::preview;
use crate::render::payment::instant;
use crate::render::report::ReportFormat;
use crate::run::past::read_report;
use crate::run::{Dates, Refused, Schedule, read_clock, run_id};
use crate::store::Session;
use crate::store::runs::{RUN_SILENT_MICROS, RunKind, RunRow};

use super::call::{Answer, Call, Work, json};
use super::error::ApiError;
use super::jobs::{self, Job, JobState, REPORT_PAYMENTS_MAX, report_text};
use super::query::{Envelope, LIMIT, SORT_DIR, START_AFTER};
use super::replay::{self, ChangeFuture, idempotency_key};
use super::{Operation, Takes, Versions};

const TAG: &str = "Runs";

pub(super) static LIST: Operation = Operation {
    id: "listRuns",
    tag: TAG,
    summary: "List runs that billed, latest first",
    extension: true,
    query: &[LIMIT, START_AFTER, SORT_DIR],
    takes: Takes::Nothing,
    gives: (200, "RunList", "A page of runs."),
    codes: &[],
    versions: Versions::None,
    run: list,
};

pub(super) static GET: Operation = Operation {
    id: "getRun",
    tag: TAG,
    summary: "Get a run with its report; what a dry run found is kept for an hour",
    extension: true,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, "RunRead", "The run, and its report once there is one."),
    codes: &["NOT_FOUND"],
    versions: Versions::None,
    run: get,
};

pub(super) static CREATE: Operation = Operation {
    id: "startRun",
    tag: TAG,
    summary: "Start a run, which goes on whether or not anybody waits for it; its mails wait in the outbox",
    extension: true,
    query: &[],
    takes: Takes::Json("RunStart"),
    gives: (202, "RunStarted", "The runs that begin now, one a date, to be asked for by their ids."),
    codes: &["RUN_IN_PROGRESS"],
    versions: Versions::None,
    run: create,
};

/// A run on the wire; fields in the order in which they are sent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireRun {
    run_id: String,
    run_date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    dry_run: bool,
    state: String,
    requested_by: String,
    started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    billed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    already_billed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parked: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    withheld: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    never_charged: Option<i64>,
}

fn shown(micros: i64) -> String {
    clock::instant(micros).map(instant).unwrap_or_default()
}

impl WireRun {
    fn of_ledger(row: &RunRow, now: i64) -> Self {
        let kind = if row.kind == RunKind::CatchUp.as_str() { "catchUp" } else { &row.kind };
        Self {
            run_id: row.run_id.clone(),
            run_date: row.run_date.to_string(),
            kind: Some(kind.to_owned()),
            subject: row.subject.clone(),
            dry_run: false,
            state: if row.is_silent(now) { "interrupted".to_owned() } else { row.state.clone() },
            requested_by: row.requested_by.clone(),
            started_at: shown(row.started_at),
            finished_at: row.finished_at.map(shown),
            plan_hash: row.plan_hash.clone(),
            billed: Some(row.billed.unsigned_abs()),
            already_billed: Some(row.already_billed),
            skipped: Some(row.skipped),
            parked: Some(row.parked),
            withheld: Some(row.withheld),
            never_charged: Some(row.never_charged),
        }
    }

    fn of_job(job: &Job) -> Self {
        let (billed, plan_hash) = job.planned.clone().unzip();
        Self {
            run_id: job.run_id.clone(),
            run_date: job.run_date.to_string(),
            kind: None,
            subject: None,
            dry_run: job.dry_run,
            state: job.state.as_str().to_owned(),
            requested_by: job.requested_by.clone(),
            started_at: shown(job.asked_at),
            finished_at: job.finished_at.map(shown),
            plan_hash,
            billed,
            already_billed: None,
            skipped: None,
            parked: None,
            withheld: None,
            never_charged: None,
        }
    }
}

fn list(call: Call) -> Work {
    Box::pin(async move {
        let list = call.query.page()?;
        let mut session = call.api.store.read().await?;
        let rows = session.list_run_page(&call.by.tenant_id, &list.page).await?;
        session.end().await;
        let (rows, next) = list.cut(rows, |row| list.position(row.started_at, row.started_at, &row.run_id));
        let now = call.by.now_micros();
        let runs: Vec<WireRun> = rows.iter().map(|row| WireRun::of_ledger(row, now)).collect();
        Ok(list.answer("runs", Envelope::Success, &runs, next))
    })
}

fn get(call: Call) -> Work {
    Box::pin(async move {
        let unknown = || Refusal::not_found("run");
        let inside = |error: anyhow::Error| ApiError::internal(format!("{error:#}"));
        let (id, now) = (call.id.as_deref().ok_or_else(unknown)?, call.by.now_micros());
        let mut session = call.api.store.read().await?;
        let mut rows = session.find_run(id).await?;
        rows.retain(|row| row.tenant_id == call.by.tenant_id);
        let (run, billed, report) = match rows.first() {
            Some(row) => {
                let billed = row.billed.unsigned_abs();
                let report = if billed <= REPORT_PAYMENTS_MAX {
                    let read = read_report(&mut session, &rows, ReportFormat::Json).await;
                    let (report, mut payments) = read.map_err(inside)?;
                    Some(report_text(&report, &mut payments).map_err(inside)?)
                } else {
                    None
                };
                (WireRun::of_ledger(row, now), billed, report)
            }
            None => {
                let job = call.api.jobs.find(&call.by.tenant_id, id, now).ok_or_else(unknown)?;
                let billed = job.planned.as_ref().map_or(0, |(count, _)| *count);
                (WireRun::of_job(&job), billed, job.report.as_deref().map(str::to_owned))
            }
        };
        session.end().await;
        let mut body = vec![("success", json(&true)), ("run", json(&run))];
        body.extend(report.map(|report| ("report", report)));
        if billed > REPORT_PAYMENTS_MAX {
            body.push(("reportTooLarge", json(&true)));
        }
        Ok(Answer::ok(&body))
    })
}

/// What somebody asks for, well-formed.
struct Start {
    /// Absent: the tenant's today, and what it missed.
    run_date: Option<NaiveDate>,
    dry_run: bool,
}

impl Start {
    fn read(object: &Object, before: Vec<Problem>, tenant: &Tenant, call: &Call) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let run_date = reader.date("runDate", tenant.time_zone);
        let dry_run = reader.flag("dryRun");
        let dry_run = reader.required("dryRun", dry_run);
        let last = preview::last_date(call.by.now);
        if let Some(date) = run_date.filter(|date| *date > last) {
            reader.note("runDate", format!("{date} is too far ahead: the last is {last}"), "too_big");
        }
        if reader.problems.is_empty() { Ok(Self { run_date, dry_run }) } else { Err(Refusal::shapes(reader.problems)) }
    }
}

fn create(mut call: Call) -> Work {
    Box::pin(async move {
        let mut session = call.api.store.read().await?;
        let tenant = change::tenant(&mut session, &call.by).await?;
        let key = idempotency_key(&call.headers);
        call.query.problems.extend(key.as_ref().err().cloned());
        let (object, problems) = call.object()?;
        let Start { run_date, dry_run } = Start::read(&object, problems, &tenant, &call)?;
        let dates = run_date.map_or(Dates::TodayAndMissed, Dates::On);
        if run_date.is_none()
            && let Some(alarm) = timekeeping::check(&read_clock(&call.api.store, &*call.api.clock, false).await?, None)
        {
            return Err(ApiError::wrong_clock(alarm.to_string()));
        }
        let schedule = Schedule::new(&[tenant.into()], dates, dry_run, call.by.now, &mut session).await;
        session.end().await;
        let schedule = schedule.map_err(refused)?;
        let jobs: Vec<Job> = schedule
            .dates
            .iter()
            .flat_map(|date| &date.tenants)
            .map(|work| Job {
                tenant_id: call.by.tenant_id.clone(),
                run_id: run_id(call.by.now),
                run_date: work.run_date,
                dry_run,
                requested_by: call.by.actor.clone(),
                asked_at: call.by.now_micros(),
                finished_at: None,
                state: JobState::Waiting,
                planned: None,
                report: None,
            })
            .collect();
        let told = started(&jobs, &schedule);

        let turn = call.api.jobs.take_turn(&call.by.tenant_id);
        let (is_free, by, wanted, answer) = (turn.is_some(), call.by.clone(), jobs.clone(), told.clone());
        let answer = replay::once(&call, key.ok().flatten(), move |tx: &mut Session| {
            let (by, wanted, answer) = (by.clone(), wanted.clone(), answer.clone());
            Box::pin(async move { settled(admit(tx, &by, is_free, &wanted).await.map(|()| answer)) })
                as ChangeFuture<'_>
        })
        .await?;
        // Another answer is that to an earlier request with the same Idempotency-Key.
        if let Some(turn) = turn.filter(|_| answer == told) {
            jobs::start(call.api.clone(), turn, jobs, schedule.dates);
        }
        Ok(answer)
    })
}

fn refused(refused: Refused) -> ApiError {
    match refused {
        Refused::Store(error) => error.into(),
        Refused::Future { date, today, .. } => {
            let message = format!("{date} is later than today ({today}): only a dry run may look ahead");
            Refusal::shapes(vec![Problem::new("runDate", message, "too_big")]).into()
        }
        refused => ApiError::internal(refused.to_string()),
    }
}

/// Whether the runs may begin; puts those that bill on record.
async fn admit(session: &mut Session, by: &change::By, is_free: bool, jobs: &[Job]) -> Result<(), NotMade> {
    let bills = jobs.iter().any(|job| !job.dry_run);
    let since = by.now_micros() - RUN_SILENT_MICROS;
    if !is_free || (bills && session.is_run_alive(&by.tenant_id, since).await?) {
        let message = "a run of this tenant is going on: wait until it has ended";
        return Err(Refusal::new(RefusalKind::Conflict, "RUN_IN_PROGRESS", message).into());
    }
    for job in jobs.iter().filter(|job| !job.dry_run) {
        let after = schema!({"runDate": job.run_date.to_string()});
        by.audit(session, "start", ("run", &job.run_id), None, Some(&after)).await?;
    }
    Ok(())
}

fn started(jobs: &[Job], schedule: &Schedule) -> Answer {
    let runs: Vec<WireRun> = jobs.iter().map(WireRun::of_job).collect();
    let last = jobs.last().map(|job| job.run_id.as_str()).unwrap_or_default();
    let message = if jobs.len() == 1 { "the run begins" } else { "the runs begin, one after the other" };
    let mut body = vec![("success", json(&true)), ("message", json(&message)), ("runId", json(&last))];
    body.push(("runs", json(&runs)));
    body.extend(schedule.overdue.first().map(|overdue| {
        let (first, last) = (overdue.first.to_string(), overdue.last.to_string());
        ("overdue", json(&schema!({"first": first, "last": last, "count": overdue.count})))
    }));
    Answer::ok(&body).accepted()
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let text = schema!({"type": "string"});
    let count = schema!({"type": "integer", "minimum": 0});
    let success = schema!({"type": "boolean", "enum": [true]});
    let run = schema!({"$ref": "#/components/schemas/Run"});
    let date = schema!({"type": "string", "format": "date"});
    let instant = schema!({"type": "string", "format": "date-time"});
    vec![
        (
            "Run",
            schema!({
                "type": "object",
                "required": ["runId", "runDate", "dryRun", "state", "requestedBy", "startedAt"],
                "properties": {
                    "runId": text,
                    "runDate": date,
                    "kind": {"type": "string", "enum": ["today", "catchUp", "explicit", "retry"]},
                    "subject": {"type": "string", "description": "The one subject of a retry."},
                    "dryRun": {"type": "boolean"},
                    "state": {"type": "string", "enum": ["waiting", "running", "completed", "failed", "interrupted"]},
                    "requestedBy": text,
                    "startedAt": instant,
                    "finishedAt": instant,
                    "planHash": text,
                    "billed": count,
                    "alreadyBilled": count,
                    "skipped": count,
                    "parked": count,
                    "withheld": count,
                    "neverCharged": count,
                },
            }),
        ),
        (
            "RunStart",
            schema!({
                "type": "object",
                "required": ["dryRun"],
                "properties": {
                    "runDate": {"type": "string", "format": "date",
                                "description": "Without it the tenant's today, and before it the dates that were missed."},
                    "dryRun": {"type": "boolean", "description": "Plan and report, and write nothing."},
                },
            }),
        ),
        (
            "RunStarted",
            schema!({
                "type": "object",
                "required": ["success", "message", "runId", "runs"],
                "properties": {
                    "success": success,
                    "message": text,
                    "runId": {"type": "string", "description": "The last of the runs."},
                    "runs": {"type": "array", "items": run},
                    "overdue": {"type": "object", "required": ["first", "last", "count"],
                                "description": "Dates that were never run and are too old to be caught up.",
                                "properties": {"first": date, "last": date, "count": count}},
                },
            }),
        ),
        (
            "RunRead",
            schema!({
                "type": "object",
                "required": ["success", "run"],
                "properties": {
                    "success": success,
                    "run": run,
                    "report": {"type": "object",
                               "description": "billday.report/1, as `billday runs show --format json` writes it."},
                    "reportTooLarge": {"type": "boolean",
                                       "description": "There instead of a report with more than 10,000 payments."},
                },
            }),
        ),
        (
            "RunList",
            schema!({"type": "object", "required": ["success", "runs", "count", "hasMore", "nextCursor"],
                     "properties": {"success": success, "runs": {"type": "array", "items": run},
                                    "count": {"type": "number"}, "hasMore": {"type": "boolean"},
                                    "nextCursor": {"type": ["string", "null"]}}}),
        ),
    ]
}
