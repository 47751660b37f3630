//! The versions of the tables. A new database gets all migrations, and an older one those that it lacks.

use crate::store::StoreError;

/// The migrations of a kind of database, which are part of the program.
pub(in crate::store) struct Schema {
    /// The version of the first migration, which creates all tables.
    pub(in crate::store) first: i64,
    /// The migrations, each to the next version. A new one is a file of its own at the end of the list: those before it
    /// do not change any more.
    pub(in crate::store) migrations: &'static [&'static str],
}

impl Schema {
    /// Returns the migrations that a database lacks, with their versions. `found` is its version, or 0 if it has no tables.
    pub(in crate::store) fn missing(
        &self,
        found: i64,
        may_migrate: bool,
    ) -> Result<Vec<(i64, &'static str)>, StoreError> {
        let all = (self.first..).zip(self.migrations.iter().copied());
        let missing: Vec<_> = all.filter(|(version, _)| *version > found).collect();
        let first = self.first;
        let known = first + self.migrations.len() as i64 - 1;
        if found > known {
            return Err(StoreError::TooNew { found, known });
        }
        if found > 0 && found < first {
            return Err(StoreError::TooOldToMigrate { found, first });
        }
        match missing.is_empty() || may_migrate {
            true => Ok(missing),
            false => Err(StoreError::TooOld { found, known }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Schema = Schema {
        first: 9,
        migrations: &["all tables", "one more", "another"],
    };

    #[test]
    fn a_database_gets_the_migrations_that_it_lacks() {
        let missing = |found| LATER.missing(found, true).expect("a version that is known");
        let all = [(9, "all tables"), (10, "one more"), (11, "another")];
        assert_eq!(missing(0), all);
        assert_eq!(missing(9), all[1..]);
        assert_eq!(missing(10), all[2..]);
        assert_eq!(missing(11), []);
    }

    #[test]
    fn a_database_that_lacks_none_needs_no_right_to_migrate() {
        assert_eq!(LATER.missing(11, false).expect("up to date"), []);
        for found in [0, 9, 10] {
            let error = LATER.missing(found, false).expect_err("too old");
            let is_said = matches!(error, StoreError::TooOld { known: 11, .. });
            assert!(is_said, "{found}: {error}");
        }
    }

    #[test]
    fn versions_that_no_migration_leads_from_are_errors() {
        for may_migrate in [false, true] {
            for found in [1, 8] {
                let error = LATER.missing(found, may_migrate).expect_err("much too old");
                let is_said = matches!(error, StoreError::TooOldToMigrate { first: 9, .. });
                assert!(is_said, "{found}: {error}");
            }
            let error = LATER.missing(12, may_migrate).expect_err("too new");
            let is_said = matches!(error, StoreError::TooNew { known: 11, .. });
            assert!(is_said, "{error}");
        }
    }
}
