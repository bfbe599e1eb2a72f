import { lazyRouteComponent } from '@tanstack/react-router'
import { lazyModule } from '../api/lazyModule'

/** The component of a route, loaded when it is first visited. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- as in the router's own declaration
export const lazyPage = <T extends Record<string, any>, K extends keyof T>(load: () => Promise<T>, name: K) =>
  lazyRouteComponent(() => lazyModule(load), name)
