import { IconSettings } from '@tabler/icons-react'
import { createRoute } from '@tanstack/react-router'
import { lazyPage } from '../../shell/lazyPage'
import { rootRoute } from '../../shell/rootRoute'

export const routes = [
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/preferences',
    component: lazyPage(() => import('./PreferencesPage'), 'PreferencesPage'),
    staticData: { menu: { label: 'Preferences', icon: IconSettings, position: 90 } },
  }),
] as const
