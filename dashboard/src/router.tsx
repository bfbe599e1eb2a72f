import { createRootRouteWithContext, createRoute, createRouter, lazyRouteComponent, Navigate } from '@tanstack/react-router'
import type { ReactNode } from 'react'
import { Problem } from './ui/Problem'
import { Shell } from './ui/Shell'
import { Empty, Spinner } from './ui/bits'

const root = createRootRouteWithContext<{ admin: boolean }>()({
  component: Shell,
  notFoundComponent: () => <Empty title="There is no such page">The address may be mistyped, or the page has moved.</Empty>,
})

/** The console is for admins; others get their home (the server decides what anybody may do). */
function Start(): ReactNode {
  const { admin } = index.useRouteContext()
  return <Navigate to={admin ? '/overview' : '/home'} replace />
}

const index = createRoute({ getParentRoute: () => root, path: '/', component: Start })
const home = createRoute({
  getParentRoute: () => root,
  path: '/home',
  component: lazyRouteComponent(() => import('./pages/Home'), 'Home'),
})
const overview = createRoute({
  getParentRoute: () => root,
  path: '/overview',
  component: lazyRouteComponent(() => import('./pages/Overview'), 'Overview'),
})
const devices = createRoute({
  getParentRoute: () => root,
  path: '/devices',
  component: lazyRouteComponent(() => import('./pages/Devices'), 'Devices'),
})
export const deviceRoute = createRoute({
  getParentRoute: () => root,
  path: '/devices/$uid',
  component: lazyRouteComponent(() => import('./pages/Device'), 'DevicePage'),
})
const users = createRoute({
  getParentRoute: () => root,
  path: '/users',
  component: lazyRouteComponent(() => import('./pages/Users'), 'Users'),
})
interface AuditSearch {
  actor?: string
  device?: string
  action?: string
  outcome?: string
  source?: string
  since?: string
  until?: string
}
const AUDIT = ['actor', 'device', 'action', 'outcome', 'source', 'since', 'until'] as const
export const auditRoute = createRoute({
  getParentRoute: () => root,
  path: '/audit',
  validateSearch: (search: Record<string, unknown>): AuditSearch =>
    Object.fromEntries(AUDIT.filter((key) => typeof search[key] === 'string').map((key) => [key, search[key]])),
  component: lazyRouteComponent(() => import('./pages/Audit'), 'Audit'),
})
const metrics = createRoute({
  getParentRoute: () => root,
  path: '/metrics',
  component: lazyRouteComponent(() => import('./pages/Metrics'), 'Metrics'),
})
const preferences = createRoute({
  getParentRoute: () => root,
  path: '/preferences',
  component: lazyRouteComponent(() => import('./pages/Preferences'), 'PreferencesPage'),
})
const account = createRoute({
  getParentRoute: () => root,
  path: '/account',
  component: lazyRouteComponent(() => import('./pages/Account'), 'AccountPage'),
})

export const router = createRouter({
  routeTree: root.addChildren([index, home, overview, devices, deviceRoute, users, auditRoute, metrics, preferences, account]),
  basepath: '/dashboard',
  context: { admin: false },
  defaultPreload: 'intent',
  defaultPendingComponent: Spinner,
  defaultErrorComponent: ({ error, reset }) => <Problem thrown={error} retry={reset} title="This page broke" />,
})

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router
  }
}
