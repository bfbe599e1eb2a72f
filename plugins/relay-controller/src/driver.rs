//! Decode and encode: the preset, minus what a board of relays cannot do.

use hexa_sdk::prelude::*;
use hexa_sdk::presets::hexa_json;
use hexa_sdk::presets::relay_config::RelayConfig;

/// Boards with relays and inputs, some with a sensor or a power meter.
#[derive(Debug)]
pub struct RelayController;

impl Driver for RelayController {
    type Config = RelayConfig;
    type State = ();

    fn descriptor() -> Descriptor {
        Descriptor::new("relay_controller")
            .capability("relay")
            .relays(64)
            .inputs(64, &hexa_json::INPUT_EVENTS)
            .reading(ReadingSpec::number("temperature", "°C", "temperature"))
            .reading(ReadingSpec::number("power", "W", "power"))
            .reading(ReadingSpec::number("energy", "Wh", "energy"))
            .command("set-relay")
            .command("set-all-relays")
            .command("request-state")
            .command("identify")
            .command("sync-config")
            .command("ota-available")
            .channel("http:sensor-report")
            .config_schema(RelayConfig::schema())
    }

    fn decode(cx: &mut Context<'_, Self>, channel: Channel<'_>, message: Message<'_>) -> Result<()> {
        hexa_json::decode(cx, channel, message)
    }

    fn encode(cx: &mut Context<'_, Self>, command: &CommandEnvelope) -> Result<Encoded> {
        match &command.command {
            Command::IrLearn(_) | Command::IrTransmit(_) => Err(Error::unsupported("it has no infrared")),
            Command::Custom(custom) => Err(Error::unsupported(format!("it has no command {:?}", custom.name))),
            _ => hexa_json::encode(cx, command),
        }
    }

    fn validate_config(ident: &DeviceIdent, config: &str) -> std::result::Result<Accepted, Vec<(String, String)>> {
        let config: RelayConfig = serde_json::from_str(config).map_err(|e| vec![(String::new(), e.to_string())])?;
        let wrong = config.errors(ident);
        if wrong.is_empty() { Accepted::new(ident, &config) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests;
