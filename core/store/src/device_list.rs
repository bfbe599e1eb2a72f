//! Lists of devices: pages by keyset in one of two orders, with a search and filters.

use hexa_model::{DeviceClass, DeviceKey, UserKey, names};

use crate::Store;
use crate::db::{Arg, Db, Query, plan_column, query};
use crate::devices::{DeviceRow, device};
use crate::dialect;
use crate::error::StoreError;
use crate::users::contains;

/// Which devices to list.
#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    /// Devices of this account; none for those of everybody.
    pub owner: Option<UserKey>,
    /// And these, which are shared with the owner of the others.
    pub shared: Vec<DeviceKey>,
    /// A part of uid, name or model, in any case; of own devices also of the serial number and of names of relays.
    pub search: Option<String>,
    /// Whether the search looks into e-mails and names of owners as well.
    pub search_owners: bool,
    /// Only devices of this class.
    pub class: Option<DeviceClass>,
    /// With or without an owner.
    pub claimed: Option<bool>,
    /// In which order, and from where on.
    pub order: DeviceOrder,
    /// At most so many.
    pub limit: u32,
}

/// In which order devices are listed, and behind which place of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceOrder {
    /// As they came, behind this key.
    Added(Option<DeviceKey>),
    /// By what they are called, folded (`hexa_model::names::fold`), and where that is the same by key; behind this name and key.
    Name(Option<(String, DeviceKey)>),
}

impl Default for DeviceOrder {
    fn default() -> Self {
        Self::Added(None)
    }
}

impl DeviceOrder {
    /// The same order behind this device.
    #[must_use]
    pub fn behind(&self, row: &DeviceRow) -> Self {
        match self {
            Self::Added(_) => Self::Added(Some(row.key)),
            Self::Name(_) => Self::Name(Some((row.shown_name().to_owned(), row.key))),
        }
    }
}

/// A `where` that is being put together.
struct Conditions {
    sqlite: bool,
    terms: Vec<String>,
    args: Vec<Arg>,
}

impl Conditions {
    fn bind(&mut self, arg: impl Into<Arg>) -> usize {
        self.args.push(arg.into());
        self.args.len()
    }

    /// Only what is behind the place; gives what to order by.
    fn behind(&mut self, order: &DeviceOrder) -> String {
        match order {
            DeviceOrder::Added(after) => {
                let after = self.bind(after.map_or(0, |k| k.0));
                self.terms.push(format!("id > ${after}"));
                "id".to_owned()
            }
            DeviceOrder::Name(after) => {
                if let Some((name, key)) = after {
                    let (name, key) = (self.bind(names::fold(name)), self.bind(key.0));
                    // The second says it all; SQLite begins in the middle of an index for the first one only.
                    self.terms.push(format!("name_folded >= ${name} and (name_folded, id) > (${name}, ${key})"));
                }
                "name_folded, id".to_owned()
            }
        }
    }

    /// Only theirs, and what is shared with them; gives what is true of theirs alone.
    fn whose(&mut self, owner: Option<UserKey>, shared: &[DeviceKey]) -> String {
        let Some(owner) = owner else { return "true".to_owned() };
        let n = self.bind(owner.0);
        let own = format!("owner_id = ${n}");
        if shared.is_empty() {
            self.terms.push(own.clone());
        } else {
            let n = self.bind(shared.iter().map(|k| k.0).collect::<Vec<_>>());
            let among = if self.sqlite {
                format!("id in (select value from json_each(${n}))")
            } else {
                format!("id = any(${n})")
            };
            self.terms.push(format!("({own} or {among})"));
        }
        own
    }

    fn search(&mut self, text: &str, own: &str, owners: bool) {
        let Some(pattern) = contains(text) else {
            self.terms.push("false".to_owned());
            return;
        };
        let (n, sqlite) = (self.bind(pattern), self.sqlite);
        let like = |text: &str| format!("coalesce({text}, '') like ${n} escape '!'");
        // What devices say of themselves is ASCII.
        let ascii = |text: &str| like(&dialect::lowered(sqlite, text));
        // What a guest is not shown is not found by them either.
        let relays = format!(
            "exists (select 1 from relay_names r where r.device_id = devices.id and r.name_folded like ${n} escape '!')"
        );
        let mut found = [ascii("uid"), like("name_folded"), ascii("model")].join(" or ");
        if owners {
            let (email, name) = (like("u.email_folded"), like("u.name_folded"));
            found = format!("{found} or owner_id in (select u.id from users u where {email} or {name})");
        }
        self.terms.push(format!("({found} or ({own} and ({} or {relays})))", ascii("serial")));
    }
}

fn page(sqlite: bool, filter: &DeviceFilter) -> Query {
    let mut all = Conditions { sqlite, terms: Vec::new(), args: Vec::new() };
    let order = all.behind(&filter.order);
    let own = all.whose(filter.owner, &filter.shared);
    if let Some(search) = &filter.search {
        all.search(search, &own, filter.search_owners);
    }
    if let Some(class) = filter.class {
        let n = all.bind(class.as_str());
        all.terms.push(format!("device_class = ${n}"));
    }
    if let Some(claimed) = filter.claimed {
        all.terms.push(format!("owner_id is {}null", if claimed { "not " } else { "" }));
    }
    let limit = all.bind(filter.limit);
    let terms = if all.terms.is_empty() { "true".to_owned() } else { all.terms.join(" and ") };
    let sql = format!("select * from devices where {terms} order by {order} limit ${limit}");
    all.args.into_iter().fold(query(sqlx::AssertSqlSafe(sql)), Query::bind)
}

impl Store {
    /// A page of devices, keyset-paged, with capabilities.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list_devices(&self, filter: &DeviceFilter) -> Result<Vec<DeviceRow>, StoreError> {
        let rows = page(self.is_sqlite(), filter).fetch_all(self.reader()).await?;
        let mut found = rows.iter().map(device).collect::<Result<Vec<_>, _>>()?;
        self.add_capabilities(&mut found).await?;
        Ok(found)
    }

    /// How the database would read such a page, step by step: for tests of the indexes.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn plan_of_devices(&self, filter: &DeviceFilter) -> Result<Vec<String>, StoreError> {
        let sqlite = self.is_sqlite();
        let rows = page(sqlite, filter).explained(sqlite).fetch_all(self.reader()).await?;
        rows.iter().map(|row| row.get(plan_column(sqlite))).collect()
    }

    fn is_sqlite(&self) -> bool {
        matches!(self.inner.db, Db::Sqlite { .. })
    }
}
