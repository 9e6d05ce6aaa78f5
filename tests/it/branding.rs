//! How a seller looks: by import or by command, in the snapshot of each invoice, and never changed behind its back.

use billday::domain::brand::Colour;
use billday::domain::document::InvoiceDocument;
use billday::import::Kind;
use billday::render::invoice::InvoiceRenderer;
use billday::store::Store;
use serde_json::json;

use crate::cli::billday;
use crate::support::world::{World, rental, tenant};
use crate::support::{assert_verified, on_both};

const RED: &str =
    r#"<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30"><path fill="red" d="M0 0h90v30z"/></svg>"#;
const GREEN: &str =
    r#"<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30"><path fill="green" d="M0 0h90v30z"/></svg>"#;

on_both! {
    async fn an_invoice_keeps_the_look_that_its_seller_had(db: TestDb) {
        let world = World::new(db).await;
        let (red, green) = (world.db.file("red.svg", RED), world.db.file("green.svg", GREEN));
        let look = |logo: &std::path::Path| {
            tenant("T", json!({"logo": logo, "accentColor": "#B4232A", "footer": "HRB 123\nManaging director: A"}))
        };
        world.import(look(&red)).await;
        world.import(json!([rental("R1", "2026-11-15", json!({})), rental("R2", "2026-11-16", json!({}))])).await;
        world.run("2026-11-15").await;
        let first = document(&world, 1).await;
        let brand = &first.seller.brand;
        assert_eq!(brand.accent, Some(Colour([0xb4, 0x23, 0x2a])));
        assert_eq!(brand.footer.as_deref(), Some("HRB 123\nManaging director: A"));
        assert_eq!(brand.logo.as_ref().map(|logo| &*logo.bytes), Some(RED.as_bytes()));

        // What is imported again is the same, whatever became of the file; another logo is for later invoices.
        assert_eq!(world.import(look(&red)).await.counts(Kind::Tenant).unchanged, 1);
        assert_eq!(world.import(look(&green)).await.counts(Kind::Tenant).changed, 1);
        std::fs::remove_file(&red).expect("the file");
        world.run("2026-11-16").await;
        assert_eq!(document(&world, 1).await, first);
        let second = document(&world, 2).await;
        assert_eq!(second.seller.brand.logo.as_ref().map(|logo| &*logo.bytes), Some(GREEN.as_bytes()));
        let mut renderer = InvoiceRenderer::new().expect("the fonts");
        let [with_red, with_green] = [&first, &second].map(|document| renderer.render(document).expect("a PDF").pdf);
        assert_ne!(with_red.len(), with_green.len());
        assert_eq!(InvoiceRenderer::new().expect("the fonts").render(&first).expect("a PDF").pdf, with_red);

        assert_verified(&world.db).await;
        let nothing = if world.db.is_sqlite() { "x''" } else { "''" };
        world.db.execute(&format!("update assets set body = {nothing}")).await;
        let mut session = world.db.store.read().await.expect("a snapshot");
        let audit = session.audit(None, chrono::DateTime::UNIX_EPOCH).await.expect("an audit");
        session.end().await;
        assert_eq!(audit.violations.iter().map(|v| (v.check, v.count)).collect::<Vec<_>>(), [("logo_differs", 2)]);
        world.db.execute("delete from assets").await;
        let mut session = world.db.store.read().await.expect("a snapshot");
        let keys = [(&*first.tenant_id, &*first.payment_id)];
        let missing = session.invoice_documents(&keys).await.expect("documents").remove(0).unwrap_err();
        session.end().await;
        assert!(missing.contains("has no usable logo"), "{missing}");
    }

    async fn a_logo_lies_beside_the_file_that_names_it(db: TestDb) {
        std::fs::create_dir(db.dir.path().join("in")).expect("a folder");
        let data = db.file("in/data.json", tenant("T", json!({"logo": "logos/red.svg"})).to_string());
        let import = || billday(db.dir.path(), &db.url, &["import", data.to_str().expect("UTF-8")]);
        let refused = import();
        assert!(refused.status == 2 && refused.err.contains("data.json:1: tenant 'T': logo: 'logos/red.svg' cannot be taken: No such file"), "{refused:?}");
        std::fs::create_dir(db.dir.path().join("in/logos")).expect("a folder");
        db.file("in/logos/red.svg", "<html>");
        assert!(import().err.contains("it is neither PNG, JPEG nor SVG"));
        db.file("in/logos/red.svg", [b' '; 1_000_001]);
        assert!(import().err.contains("it is larger than 1 MB"));
        db.file("in/logos/red.svg", RED);
        assert_eq!(import().status, 0);
        assert_eq!(db.texts("select content_type from assets").await, ["image/svg+xml"]);
        let unknown = tenant("T", json!({"logo": "sha256:12", "footer": "1\n2\n3\n4\n5\n6\n7", "accentColor": "red"}));
        db.file("in/data.json", unknown.to_string());
        let refused = import();
        assert!(refused.err.contains("footer: is too long") && refused.err.contains("'red' is not a colour"), "{refused:?}");
        db.file("in/data.json", tenant("T", json!({"logo": "sha256:12"})).to_string());
        let refused = import();
        assert!(refused.err.contains("logo: no picture sha256:12 of this tenant is stored"), "{refused:?}");
    }

    async fn a_tenant_is_made_and_changed_by_command_with_the_checks_of_an_import(db: TestDb) {
        let run = |args: &[&str]| billday(db.dir.path(), &db.url, args);
        db.file("red.svg", RED);
        let create = ["tenant", "create", "T", "--name", "Rent", "--currency", "EUR", "--time-zone", "Europe/Berlin"];
        let made = run(&[&create[..], &["tax.rate=19", "--logo", "red.svg"]].concat());
        assert!(made.status == 0 && made.out.contains("tax.rate") && made.out.contains("sha256:"), "{made:?}");
        let again = run(&create);
        assert!(again.status == 2 && again.err.contains("change it with `billday tenant set T`"), "{again:?}");

        let changed = run(&["tenant", "set", "T", "address.city=Bonn", "billingCycle.fixedDay=5", "footer=One\\nTwo"]);
        assert_eq!(changed.status, 0, "{changed:?}");
        let rows: Vec<Vec<&str>> = changed.out.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected = [
            vec!["FIELD", "WAS", "IS"],
            vec!["billingCycle", "startDate"],
            vec!["billingCycle.fixedDay", "5"],
            vec!["address.city", "Bonn"],
            vec!["footer", "One\\nTwo"],
        ];
        assert_eq!(rows, expected);
        let same = run(&["tenant", "set", "T", "address.city=Bonn"]);
        assert!(same.status == 0 && same.err.contains("nothing was changed"), "{same:?}");

        for (args, why) in [
            (&["vat=DE1"][..], "a tenant has no field 'vat'; the nearest is vatId"),
            (&["vatId"], "'vatId' is no FIELD=VALUE"),
            (&["tax.rate=101", "email=x"], "tax.rate: 101 is not between 0 and 100\nemail: 'x' is not an e-mail address"),
            (&["name="], "name: is missing"),
            (&["--logo", "gone.png"], "logo: 'gone.png' cannot be taken: No such file"),
        ] {
            let refused = run(&[&["tenant", "set", "T"], args].concat());
            assert!(refused.status == 2 && refused.err.contains(why), "{args:?}: {refused:?}");
        }
        assert_eq!(run(&["tenant", "set", "nobody", "name=x"]).status, 2);
        let shown = run(&["tenant", "show", "T"]).out;
        assert!(shown.contains("sha256:") && shown.contains("Bonn") && shown.contains("One\\nTwo"), "{shown}");
        assert_eq!(run(&["tenant", "set", "T", "--no-logo", "address=", "footer="]).status, 0);
        let shown = run(&["tenant", "show", "T"]).out;
        assert!(!shown.contains("sha256:") && !shown.contains("Bonn") && !shown.contains("One"), "{shown}");
    }

    async fn a_database_from_before_looks_keeps_its_data_and_its_invoices(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R1", "2026-11-15", json!({}))])).await;
        world.run("2026-11-15").await;
        let before = document(&world, 1).await;
        let party = "select party_id from tenants";
        let parties = world.db.texts(party).await;
        world
            .db
            .execute(
                "drop table assets; alter table tenants drop column logo; alter table tenants drop column accent_color;
                 alter table tenants drop column footer; delete from _sqlx_migrations where version = 3",
            )
            .await;
        Store::open(&world.db.url, 4).await.expect("a migrated database").close().await;
        assert_eq!(document(&world, 1).await, before);
        assert_eq!(world.import(tenant("T", json!({}))).await.counts(Kind::Tenant).unchanged, 1);
        assert_eq!(world.db.texts(party).await, parties);
        assert_verified(&world.db).await;
    }
}

async fn document(world: &World, number: u32) -> InvoiceDocument {
    let mut session = world.db.store.read().await.expect("a snapshot");
    let found = session.find_invoices(&format!("INV-2026-{number:06}")).await.expect("invoices");
    let [invoice] = &found[..] else { panic!("{found:?}") };
    let keys = [(&*invoice.tenant_id, &*invoice.payment_id)];
    let document = session.invoice_documents(&keys).await.expect("documents").remove(0).expect("a good record");
    session.end().await;
    document
}
