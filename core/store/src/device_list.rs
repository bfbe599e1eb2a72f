//! Lists of devices: pages by keyset, with a search and filters.

use hexa_model::{DeviceClass, DeviceKey, UserKey};

use crate::Store;
use crate::db::{Arg, Db, query};
use crate::devices::{DeviceRow, device};
use crate::error::StoreError;
use crate::users::contains;

/// Which devices to list, in order of their keys.
#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    /// Whose; none = everybody's.
    pub owner: Option<UserKey>,
    /// And these, which are shared with the owner of the others.
    pub shared: Vec<DeviceKey>,
    /// A part of uid, name or model, in any case; of own devices also of the serial number and of names of relays.
    pub search: Option<String>,
    /// Of this class.
    pub class: Option<DeviceClass>,
    /// With or without an owner.
    pub claimed: Option<bool>,
    /// Behind this one.
    pub after: Option<DeviceKey>,
    /// At most so many.
    pub limit: u32,
}

/// A `where` that is being put together.
#[derive(Default)]
struct Conditions {
    terms: Vec<String>,
    args: Vec<Arg>,
}

impl Conditions {
    fn bind(&mut self, arg: impl Into<Arg>) -> usize {
        self.args.push(arg.into());
        self.args.len()
    }
}

impl Store {
    /// A page of devices, keyset-paged by key, with capabilities.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list_devices(&self, filter: &DeviceFilter) -> Result<Vec<DeviceRow>, StoreError> {
        let sqlite = matches!(self.inner.db, Db::Sqlite { .. });
        let mut all = Conditions::default();
        let after = all.bind(filter.after.map_or(0, |k| k.0));
        all.terms.push(format!("id > ${after}"));
        let mut own = "true".to_owned();
        if let Some(owner) = filter.owner {
            let n = all.bind(owner.0);
            own = format!("owner_id = ${n}");
            if filter.shared.is_empty() {
                all.terms.push(own.clone());
            } else {
                let n = all.bind(filter.shared.iter().map(|k| k.0).collect::<Vec<_>>());
                let among = if sqlite {
                    format!("id in (select value from json_each(${n}))")
                } else {
                    format!("id = any(${n})")
                };
                all.terms.push(format!("({own} or {among})"));
            }
        }
        if let Some(search) = &filter.search {
            let n = all.bind(contains(search));
            let like = |text: &str| format!("lower(coalesce({text}, '')) like ${n} escape '!'");
            // What a guest is not shown is not found by them either.
            let names = format!(
                "exists (select 1 from relay_names r where r.device_id = devices.id and lower(r.name) like ${n} escape '!')"
            );
            let (open, owners) = ([like("uid"), like("name"), like("model")].join(" or "), like("serial"));
            all.terms.push(format!("({open} or ({own} and ({owners} or {names})))"));
        }
        if let Some(class) = filter.class {
            let n = all.bind(class.as_str());
            all.terms.push(format!("device_class = ${n}"));
        }
        if let Some(claimed) = filter.claimed {
            all.terms.push(format!("owner_id is {}null", if claimed { "not " } else { "" }));
        }
        let limit = all.bind(filter.limit);
        let terms = all.terms.join(" and ");
        let sql = sqlx::AssertSqlSafe(format!("select * from devices where {terms} order by id limit ${limit}"));
        let query = all.args.into_iter().fold(query(sql), crate::db::Query::bind);
        let rows = query.fetch_all(self.reader()).await?;
        let mut found = rows.iter().map(device).collect::<Result<Vec<_>, _>>()?;
        self.add_capabilities(&mut found).await?;
        Ok(found)
    }
}
