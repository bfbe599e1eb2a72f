import { IconChartLine, IconDeviceDesktopAnalytics, IconPuzzle, IconRefreshDot } from '@tabler/icons-react'
import { createRoute } from '@tanstack/react-router'
import { lazyPage } from '../../shell/lazyPage'
import { rootRoute } from '../../shell/rootRoute'

export const routes = [
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/overview',
    component: lazyPage(() => import('./overview/OverviewPage'), 'OverviewPage'),
    staticData: { menu: { label: 'Overview', icon: IconDeviceDesktopAnalytics, position: 20, admin: true } },
  }),
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/plugins',
    component: lazyPage(() => import('./plugins/PluginsPage'), 'PluginsPage'),
    staticData: { menu: { label: 'Plugins', icon: IconPuzzle, position: 70, admin: true } },
  }),
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/metrics',
    component: lazyPage(() => import('./metrics/MetricsPage'), 'MetricsPage'),
    staticData: { menu: { label: 'Metrics', icon: IconChartLine, position: 80, admin: true } },
  }),
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/workers',
    component: lazyPage(() => import('./workers/WorkersPage'), 'WorkersPage'),
    staticData: { menu: { label: 'Background work', icon: IconRefreshDot, position: 90, admin: true } },
  }),
] as const
