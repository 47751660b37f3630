//! The migrations of the schema, which are part of the program.

use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::super::StoreError;
use super::pool::Pool;
use super::{channel, for_postgres};

const MIGRATIONS: &[&str] = &[
    include_str!("../../../schema/postgres/001_jobs.sql"),
    include_str!("../../../schema/postgres/002_plans.sql"),
    include_str!("../../../schema/postgres/003_expected.sql"),
    include_str!("../../../schema/postgres/004_limits.sql"),
    include_str!("../../../schema/postgres/005_after.sql"),
    include_str!("../../../schema/postgres/006_workers.sql"),
    include_str!("../../../schema/postgres/007_fewer_indexes.sql"),
    include_str!("../../../schema/postgres/008_by_hand.sql"),
    include_str!("../../../schema/postgres/009_plans_of_waits.sql"),
    include_str!("../../../schema/postgres/010_long_chains.sql"),
    include_str!("../../../schema/postgres/011_isolation.sql"),
];

/// The number of the advisory lock that keeps two programs from migrating at the same time.
const LOCK: i64 = 0x6465_6c61_7965_6421;

/// Migrates the schema if that is allowed, and returns the version before and after.
pub(super) async fn migrate(pool: &Pool, make: bool) -> Result<(i64, i64), StoreError> {
    let schema = pool.schema.as_deref();
    let known = MIGRATIONS.len() as i64;
    let mut connection = pool.connect().await?;
    let found = version(&mut connection, schema).await?;
    match found {
        _ if found == known => return Ok((found, known)),
        _ if found > known => return Err(StoreError::TooNew { found, known }),
        _ if !make => return Err(StoreError::TooOld { found, known }),
        _ => {}
    }
    // A migration may take longer than other statements, for example an index on millions of rows.
    connection.execute("set statement_timeout = 0").await?;
    let mut transaction = connection.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await?;
    // Another program may have migrated the schema meanwhile.
    let found = version(&mut transaction, schema).await?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    if let Some(schema) = schema {
        let sql = format!("create schema if not exists \"{schema}\"");
        transaction.execute(AssertSqlSafe(sql)).await?;
    }
    if !has_tables(&mut transaction, schema).await? {
        let sql = "create table delayed_jobs_schema (version bigint primary key)";
        let sql = for_postgres(sql, schema, None);
        transaction.execute(AssertSqlSafe(sql)).await?;
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(found as usize) {
        let sql = for_postgres(migration, schema, None);
        let sql = sql.replace("{channel}", &channel(schema));
        transaction.execute(AssertSqlSafe(sql)).await?;
        let sql = "insert into delayed_jobs_schema (version) values ($1)";
        let sql = for_postgres(sql, schema, None);
        sqlx::query(AssertSqlSafe(sql))
            .bind(version)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok((found, known))
}

async fn has_tables(
    connection: &mut PgConnection,
    schema: Option<&str>,
) -> Result<bool, StoreError> {
    // A query, since `to_regclass` may still have cached that there is no table after another program created it.
    let sql = "select count(*) from pg_catalog.pg_class as found
        join pg_catalog.pg_namespace as schemas on schemas.oid = found.relnamespace
        where relname = 'delayed_jobs_schema'
            and case when $1 is null then pg_catalog.pg_table_is_visible(found.oid) else nspname = $1 end";
    let found: i64 = sqlx::query_scalar(sql)
        .bind(schema)
        .fetch_one(connection)
        .await?;
    Ok(found == 1)
}

async fn version(connection: &mut PgConnection, schema: Option<&str>) -> Result<i64, StoreError> {
    if !has_tables(connection, schema).await? {
        return Ok(0);
    }
    let sql = "select coalesce(max(version), 0) from delayed_jobs_schema";
    let sql = for_postgres(sql, schema, None);
    let query = sqlx::query_scalar_with(AssertSqlSafe(sql), PgArguments::default());
    Ok(query.fetch_one(connection).await?)
}
