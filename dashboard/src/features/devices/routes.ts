import { IconHome, IconPlugConnected } from '@tabler/icons-react'
import { createRoute } from '@tanstack/react-router'
import { lazyPage } from '../../shell/lazyPage'
import { rootRoute } from '../../shell/rootRoute'
import { pickText } from '../../shell/searchParameters'
import { DEVICE_SEARCH_KEYS } from './deviceSearch'

export const routes = [
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/home',
    component: lazyPage(() => import('./HomePage'), 'HomePage'),
    staticData: { menu: { label: 'Home', icon: IconHome, position: 10 } },
  }),
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/devices',
    validateSearch: (search) => pickText(search, DEVICE_SEARCH_KEYS),
    component: lazyPage(() => import('./DevicesPage'), 'DevicesPage'),
    staticData: { menu: { label: 'Devices', icon: IconPlugConnected, position: 30 } },
  }),
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/devices/$uid',
    component: lazyPage(() => import('./DevicePage'), 'DevicePage'),
  }),
] as const
