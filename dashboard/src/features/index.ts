/** The rooms of the console, each with its routes. A new room adds its line here; its audit words are found by name. */
export { routes as devices } from './devices/routes'
export { routes as operations } from './operations/routes'
export { routes as accounts } from './accounts/routes'
export { routes as audit } from './audit/routes'
export { routes as preferences } from './preferences/routes'
