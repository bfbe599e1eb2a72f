import { IconHistory } from '@tabler/icons-react'
import { createRoute } from '@tanstack/react-router'
import { lazyPage } from '../../shell/lazyPage'
import { rootRoute } from '../../shell/rootRoute'
import { pickText } from '../../shell/searchParameters'

const SEARCH_KEYS = ['actor', 'device', 'action', 'outcome', 'source', 'since', 'until'] as const

export const routes = [
  createRoute({
    getParentRoute: () => rootRoute,
    path: '/audit',
    validateSearch: (search) => pickText(search, SEARCH_KEYS),
    component: lazyPage(() => import('./AuditPage'), 'AuditPage'),
    staticData: { menu: { label: 'Audit', icon: IconHistory, position: 60, admin: true } },
  }),
] as const
