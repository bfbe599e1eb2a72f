wasmtime::component::bindgen!({
    path: ["../../sdk/wit/core.wit", "../../sdk/wit/driver.wit"],
    world: "hexa:driver/driver",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
});
