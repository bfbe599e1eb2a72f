import { IconUserCircle, IconUserPlus, IconUsers } from '@tabler/icons-react'
import { createRoute } from '@tanstack/react-router'
import { lazyPage } from '../../shell/lazyPage'
import { rootRoute } from '../../shell/rootRoute'

export const routes = [
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/users',
    component: lazyPage(() => import('./users/UsersPage'), 'UsersPage'),
    staticData: { menu: { label: 'Users', icon: IconUsers, position: 40, admin: true } },
  }),
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/users/$id',
    component: lazyPage(() => import('./users/UserPage'), 'UserPage'),
  }),
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/invitations',
    component: lazyPage(() => import('./invitations/InvitationsPage'), 'InvitationsPage'),
    staticData: { menu: { label: 'Invitations', icon: IconUserPlus, position: 50, admin: true } },
  }),
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/account',
    component: lazyPage(() => import('./account/AccountPage'), 'AccountPage'),
    staticData: { menu: { label: 'Account', icon: IconUserCircle, position: 100 } },
  }),
] as const
