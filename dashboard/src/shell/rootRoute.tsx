import { createRootRoute } from '@tanstack/react-router'
import { EmptyState } from '../ui/EmptyState'
import { Shell } from './Shell'

/** What every page is below; a file of its own, so that rooms need not import the router. */
export const rootRoute = createRootRoute({
  component: Shell,
  notFoundComponent: () => <EmptyState title="Page not found">The address may be mistyped, or the page may have moved.</EmptyState>,
})
