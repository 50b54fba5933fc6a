//! SQL that violates rules, for a database with the schema of this repository. A superuser runs it. D36 attacks the
//! tables, so it also confirms the gaps that other rules find.

/// A change of the database, with the rules that it violates.
pub struct Fixture {
    pub codes: &'static [&'static str],
    pub sql: &'static str,
}

/// A protected table of a tenant.
macro_rules! notes {
    ($rest:literal) => {
        concat!(
            "create table notes (tenant_id uuid not null, id uuid not null, primary key (tenant_id, id));
             alter table notes owner to palisade_owner;
             select app.protect('notes', audited => false);",
            $rest
        )
    };
}

macro_rules! fixtures {
    ($([$($code:literal)+] $sql:expr;)*) => {
        pub const FIXTURES: &[Fixture] = &[$(Fixture { codes: &[$($code),+], sql: $sql }),*];
    };
}

fixtures! {
    ["D01"] "alter role palisade_app createrole";
    ["D01"] "alter role palisade_app replication";
    ["D01" "D36"] "alter role palisade_app bypassrls";
    ["D01"] "alter role palisade_auth bypassrls";
    ["D02"] "grant pg_monitor to palisade_app";
    ["D02"] "grant pg_signal_backend to palisade_app";
    ["D02"] "grant pg_read_all_stats to palisade_auth";
    ["D03"] "create function app.extra() returns integer language sql return 1;
             alter function app.extra() owner to palisade_app";
    ["D03"] "create schema extra authorization palisade_app";
    ["D04" "D36"] "alter table projects disable row level security";
    ["D05"] "alter table projects no force row level security";
    ["D06"] "create table bare (n integer); grant select on bare to palisade_app";
    ["D07"] notes!("alter table notes drop constraint notes_pkey;
                    alter table notes alter column tenant_id drop not null;
                    create index on notes (tenant_id)");
    ["D08"] "drop policy tenant on projects";
    ["D08"] "create policy extra on projects using (tenant_id = (select app.tenant_id()))
             with check (tenant_id = (select app.tenant_id()))";
    ["D08" "D09" "D36"] "create policy extra on projects using (true) with check (true)";
    ["D09"] "alter policy tenant on projects
             using (tenant_id = (select app.tenant_id()) or name = 'shared')
             with check (tenant_id = (select app.tenant_id()) or name = 'shared')";
    ["D09"] "alter policy tenant on projects using (id = (select app.tenant_id()))
             with check (id = (select app.tenant_id()))";
    ["D09"] "alter policy tenant on projects using (tenant_id = (select app.user_id()))
             with check (tenant_id = (select app.user_id()))";
    ["D10"] "alter function app.tenant_id() immutable";
    ["D11"] "alter policy tenant on projects using (tenant_id = app.tenant_id()) with check (tenant_id = app.tenant_id())";
    ["D12"] notes!("alter table notes add foreign key (id, tenant_id) references projects (tenant_id, id)");
    ["D12" "D14" "D15"]
        notes!("create unique index notes_id on notes (id);
                alter table projects add note_id uuid references notes (id)");
    ["D13"] notes!("alter table notes add slug text unique");
    ["D14"] "create index on projects (name)";
    ["D14"] "drop index invoices_created_at_idx; create index on invoices (created_at desc, tenant_id)";
    ["D14"] notes!("alter table notes drop constraint notes_pkey");
    ["D15"] notes!("alter table notes add currency text references currencies (code)");
    ["D16"] notes!("alter table notes add price numeric; create index on notes (tenant_id, price)");
    ["D17"] "create view project_names as select name from projects; grant select on project_names to palisade_app";
    ["D18"] "create materialized view project_names as select name from projects;
             grant select on project_names to palisade_app";
    ["D19"] "create table events (tenant_id uuid not null, id uuid not null, primary key (tenant_id, id))
                 partition by hash (tenant_id);
             alter table events owner to palisade_owner;
             select app.protect('events', audited => false);
             create table events_1 partition of events for values with (modulus 1, remainder 0)";
    ["D20"] "create function app.extra() returns bigint language sql security definer
                 set search_path = pg_catalog, pg_temp as 'select count(*) from public.projects';
             alter function app.extra() owner to palisade_owner";
    ["D21"] "alter function app.seal_audit_log() reset search_path";
    ["D21"] "alter function app.record_change() owner to palisade_admin";
    ["D22"] "grant truncate on projects to palisade_app";
    ["D22"] "grant references on projects to palisade_auth";
    ["D23"] "grant create on schema public to palisade_app";
    ["D23"] "do $$ begin execute format('grant temporary on database %I to public', current_database()); end $$";
    ["D23"] "grant select on projects to public; revoke select on projects from palisade_app";
    ["D24"] "alter default privileges for role palisade_owner in schema public grant select on tables to palisade_app";
    ["D25"] "create sequence numbers; grant usage on sequence numbers to palisade_app";
    ["D26"] "alter role palisade_app set app.context = '01'";
    ["D27"] "alter role palisade_app reset statement_timeout";
    ["D28"] "create or replace function pg_catalog.current_setting(text) returns text language sql stable as
             $$ select case $1 when 'server_version_num' then '150001' else pg_catalog.current_setting($1, false) end $$";
    ["D29"] "create language untrusted handler plpgsql_call_handler";
    ["D30"] "create publication changes for table projects";
    ["D31"] "grant delete on audit_logs to palisade_app";
    ["D32"] "create rule keep as on delete to projects do instead nothing";
    ["D33"] "create table drafts (tenant_id uuid not null, id uuid not null, primary key (tenant_id, id));
             create policy tenant on drafts using (tenant_id = (select app.tenant_id()))
                 with check (tenant_id = (select app.tenant_id()))";
    ["D34"] "select app.sign_contexts(false)";
    ["D35"] "alter function app.fold(text) leakproof";
    // Without a context, the function returns a tenant that exists. No other rule evaluates it.
    ["D36"] "set local session_replication_role = replica;
             insert into tenants (id, slug, name) values ('019ab9a0-0000-7000-8000-000000000001', 'acme', 'Acme');
             insert into organizations (id, tenant_id, slug, name)
                 values (gen_random_uuid(), '019ab9a0-0000-7000-8000-000000000001', 'o', 'O');
             set local session_replication_role = origin;
             create or replace function app.tenant_id() returns uuid language sql stable parallel safe as
                 $$ select case coalesce(current_setting('app.context', true), '')
                           when '' then '019ab9a0-0000-7000-8000-000000000001'::uuid end $$";
    ["D37"] "alter table projects drop column description";
    ["D37"] "alter table comments alter column body type varchar(20000)";
    ["D37"] "drop table idempotency_keys";
    ["D38"] "grant execute on function lo_create(oid) to palisade_app";
    ["D39"] "create function public.convert_to(text, text) returns bytea language sql immutable return null::bytea;
             revoke execute on function public.convert_to(text, text) from public";
    ["D40"] "alter table projects disable trigger record_change";
    ["D41"] "grant update on tenants to palisade_app";
    ["D42"] "create view audit_recent as select * from audit_logs";
    ["D43"] "alter role palisade_app reset log_error_verbosity";
    ["D44"] "create role team; grant team to palisade_app";
    ["D44"] "alter role palisade_app set row_security = off";
    ["D45"] "drop policy tenant on projects;
             create policy tenant on projects using (tenant_id = (select app.tenant_id()))";
    ["D45" "D09"] "alter policy tenant on projects with check (true)";
    ["D46"] "create function app.enter(tenant uuid) returns void language plpgsql as
             $$ begin perform set_config('app.context', tenant::text, false); end $$";
    ["D46"] "create function app.enter() returns void language sql as
             $$ set app.context = '01' $$";
    ["D47"] "alter role palisade_context login";
    ["D47" "D06"] "grant select on app.context_keys to palisade_app";
    ["D48"] "grant execute on function pg_stat_get_activity(integer) to palisade_app";
    ["D48"] "grant execute on function pg_stat_get_backend_activity(integer) to public";
    ["D49"] "grant usage on language plpgsql to palisade_app";
    ["D49"] "grant execute on function pg_try_advisory_lock_shared(bigint) to public";
    ["D50"] "alter function app.cancel(text) security invoker";
    ["D50"] "alter function app.cancel(text) owner to palisade_owner";
    ["D50"] "revoke pg_signal_backend from palisade_cancel";
}
