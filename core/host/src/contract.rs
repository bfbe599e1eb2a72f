//! What crosses the boundary to a guest: an adapter for each released version of the contract, between its values and
//! the platform's, and what is checked and kept of both.
//!
//! A component says by its exports which version it was built for, and gets that version's linker and adapter; the rest
//! of the host knows [`Pre`] and [`Bound`] only. A new version is a new module and one more line in [`VERSIONS`].

use hexa_model::driver::{
    Accepted, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverError, Encoded, FieldError, Frame,
};
use semver::Version as Semver;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use crate::cap::guest_state::GuestState;
use crate::cap::wasi;
use crate::contract::fault::Broken;
use crate::contract::output_validation::OutputValidator;

pub(crate) mod descriptor;
pub(crate) mod fault;
pub(crate) mod input_sample;
pub(crate) mod output_validation;
mod v0_1;

/// What a call gives: a result, the driver's own refusal, or a broken guest.
pub(crate) type Answer<T> = Result<Result<T, DriverError>, Broken>;

/// A component that fits its version of the contract, ready to be instantiated.
pub(crate) trait Pre: Send + Sync {
    fn instantiate(&self, store: &mut Store<GuestState>) -> wasmtime::Result<Box<dyn Bound>>;
}

/// [`Pre`] of any version.
pub(crate) type Adapter = Box<dyn Pre>;

/// The exports of one instance: values in, checked values out, whatever version they travel in.
pub(crate) trait Bound: Send + Sync {
    fn describe(&self, store: &mut Store<GuestState>) -> wasmtime::Result<String>;

    fn open_session(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
    ) -> Answer<Decoded>;

    fn encode_command(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
        envelope: &CommandEnvelope,
    ) -> Answer<Encoded>;

    fn decode_message(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        call: &DriverCall<'_>,
        channel: &str,
        message: &Frame,
    ) -> Answer<Decoded>;

    fn validate_config(
        &self,
        store: &mut Store<GuestState>,
        validator: &OutputValidator<'_>,
        ident: &DeviceIdent,
        config: &str,
    ) -> Answer<Result<Accepted, Vec<FieldError>>>;
}

/// A version of the contract that this server supports.
pub(crate) struct Version {
    /// As manifests write it: what must be equal for two versions to understand each other.
    api: &'static str,
    /// What a driver of it may import beside WASI ([`wasi::IMPORTS`]), without patch versions.
    imports: &'static [&'static str],
    /// Adds those imports to a linker.
    link: fn(&mut Linker<GuestState>) -> wasmtime::Result<()>,
    /// Looks for all exports that it requires; optional ones may be missing.
    fit: fn(&Linker<GuestState>, &Component) -> wasmtime::Result<Adapter>,
}

/// The versions, oldest first.
const VERSIONS: &[Version] = &[
    v0_1::VERSION,
    #[cfg(test)]
    test_contract::VERSION,
];

/// Whether a manifest may ask for this version.
pub(crate) fn is_supported(api: &str) -> bool {
    VERSIONS.iter().any(|v| v.api == api)
}

/// The supported versions, for an error text.
pub(crate) fn supported() -> String {
    VERSIONS.iter().map(|v| format!("{:?}", v.api)).collect::<Vec<_>>().join(", ")
}

/// A linker for each version: what one version may import is nothing to another.
pub(crate) struct Contracts {
    engine: Engine,
    linkers: Vec<Linker<GuestState>>,
}

impl Contracts {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let linker = |version: &Version| {
            let mut linker = Linker::new(engine);
            wasi::link(&mut linker)?;
            (version.link)(&mut linker)?;
            Ok(linker)
        };
        let linkers = VERSIONS.iter().map(linker).collect::<wasmtime::Result<_>>()?;
        Ok(Self { engine: engine.clone(), linkers })
    }

    /// Finds the adapter for a component whose manifest asks for `api`; the error says what does not fit.
    pub(crate) fn fit(&self, component: &Component, api: &str) -> Result<Adapter, String> {
        let built_for = self.built_for(component);
        if built_for.is_empty() {
            return Err(format!("plugin.wasm does not fit the contract hexa:driver@{api}: it exports nothing of it"));
        }
        if !built_for.iter().any(|v| v == api) {
            let built = built_for.join(", ");
            return Err(if built_for.iter().any(|v| is_supported(v)) {
                format!(
                    "plugin.toml says api {api:?}, but plugin.wasm is built for hexa:driver@{built}; let the two agree"
                )
            } else {
                format!(
                    "plugin.wasm is built for hexa:driver@{built}; this server supports {}. Build it with an SDK for one of \
                     these, or install a server that supports {built}",
                    supported()
                )
            });
        }
        let of_api = VERSIONS.iter().zip(&self.linkers).find(|(v, _)| v.api == api);
        let (version, linker) = of_api.ok_or_else(|| format!("this server supports {}, not {api:?}", supported()))?;
        self.imports_allowed(component, version)?;
        (version.fit)(linker, component)
            .map_err(|e| format!("plugin.wasm does not fit the contract hexa:driver@{api}: {e:#}"))
    }

    /// The versions whose interfaces it exports, each once.
    fn built_for(&self, component: &Component) -> Vec<String> {
        let mut found = Vec::new();
        for (name, _) in component.component_type().exports(&self.engine) {
            let version = name.strip_prefix("hexa:driver/").and_then(|n| n.split_once('@')).map(|(_, v)| track(v));
            if let Some(version) = version.filter(|v| !found.contains(v)) {
                found.push(version);
            }
        }
        found
    }

    /// A driver has no permission but its log: whatever else it imports, it is not loaded.
    fn imports_allowed(&self, component: &Component, version: &Version) -> Result<(), String> {
        for (name, _) in component.component_type().imports(&self.engine) {
            let allowed = wasi::IMPORTS
                .iter()
                .chain(version.imports)
                .any(|known| name.strip_prefix(known).is_some_and(|patch| patch.bytes().all(|b| b.is_ascii_digit())));
            if !allowed {
                return Err(format!(
                    "plugin.wasm imports {name}, which drivers are not given; they may use hexa:core/log only"
                ));
            }
        }
        Ok(())
    }
}

/// What two versions must have in common to understand each other: `0.1` of 0.1.3, `2` of 2.5.0.
fn track(version: &str) -> String {
    match Semver::parse(version) {
        Ok(v) if v.major == 0 => format!("0.{}", v.minor),
        Ok(v) => v.major.to_string(),
        Err(_) => version.to_owned(),
    }
}

#[cfg(test)]
mod test_contract;
