import './styles'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { start } from './api/session'
// Before the router, so that an invitation is removed from the address.
import './features/accounts/invitations/invitationLink'
import { App } from './app'

const root = document.getElementById('root')
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  )
}
void start()
