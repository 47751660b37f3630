//! The migrations of the schema, which are part of the program.

use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::super::StoreError;
use super::super::sql::Schema;
use super::pool::Pool;
use super::{channel, for_postgres};

const SCHEMA: Schema = Schema {
    first: 11,
    migrations: &[
        include_str!("../../../schema/postgres/011_schema.sql"),
        include_str!("../../../schema/postgres/012_foreign_waits.sql"),
        include_str!("../../../schema/postgres/013_search_path.sql"),
    ],
};

/// The number of the advisory lock that keeps two programs from migrating at the same time.
const LOCK: i64 = 0x6465_6c61_7965_6421;

/// Makes the schema of the tables the first one of the path for this transaction: a migration replaces functions there, and
/// not in another schema that comes before it.
const FIRST_OF_PATH: &str = "\
select set_config('search_path', quote_ident(nspname) || ', ' || current_setting('search_path'), true)
from pg_catalog.pg_class as found
join pg_catalog.pg_namespace as schemas on schemas.oid = found.relnamespace
where relname = 'delayed_jobs_schema' and pg_catalog.pg_table_is_visible(found.oid)";

/// Migrates the schema if that is allowed, and returns the version before and after.
pub(super) async fn migrate(pool: &Pool, make: bool) -> Result<(i64, i64), StoreError> {
    let schema = pool.settings.schema.as_deref();
    let mut connection = pool.connect().await?;
    let found = version(&mut connection, schema).await?;
    if SCHEMA.missing(found, make)?.is_empty() {
        return Ok((found, found));
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
    if found > 0 && schema.is_none() {
        transaction.execute(FIRST_OF_PATH).await?;
    }
    if let Some(schema) = schema {
        let sql = format!("create schema if not exists \"{schema}\"");
        transaction.execute(AssertSqlSafe(sql)).await?;
    }
    let mut reached = found;
    for (version, migration) in SCHEMA.missing(found, make)? {
        let sql = for_postgres(migration, schema, None);
        let sql = sql.replace("{channel}", &channel(schema));
        transaction.execute(AssertSqlSafe(sql)).await?;
        let sql = "insert into delayed_jobs_schema (version) values ($1)";
        let sql = for_postgres(sql, schema, None);
        sqlx::query(AssertSqlSafe(sql))
            .bind(version)
            .execute(&mut *transaction)
            .await?;
        reached = version;
    }
    transaction.commit().await?;
    Ok((found, reached))
}

/// Returns the version of the schema, which is 0 if there are no tables.
async fn version(connection: &mut PgConnection, schema: Option<&str>) -> Result<i64, StoreError> {
    // A query, since `to_regclass` may still have cached that there is no table after another program created it.
    let sql = "select count(*) from pg_catalog.pg_class as found
        join pg_catalog.pg_namespace as schemas on schemas.oid = found.relnamespace
        where relname = 'delayed_jobs_schema'
            and case when $1 is null then pg_catalog.pg_table_is_visible(found.oid) else nspname = $1 end";
    let tables: i64 = sqlx::query_scalar(sql)
        .bind(schema)
        .fetch_one(&mut *connection)
        .await?;
    if tables == 0 {
        return Ok(0);
    }
    let sql = "select coalesce(max(version), 0) from delayed_jobs_schema";
    let sql = for_postgres(sql, schema, None);
    let query = sqlx::query_scalar_with(AssertSqlSafe(sql), PgArguments::default());
    Ok(query.fetch_one(connection).await?)
}
