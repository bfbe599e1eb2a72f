import { Component, type ReactNode } from 'react'
import { queryClient } from '../api/queryClient'
import { ErrorAlert } from './ErrorAlert'

interface State {
  thrown: unknown
}

/** Shows an error in the place of the children that threw it; the rest of the page stays. */
export class ErrorBoundary extends Component<{ children: ReactNode; title: string }, State> {
  override state: State = { thrown: null }

  static getDerivedStateFromError(thrown: unknown) {
    return { thrown: thrown ?? new Error('unknown error') }
  }

  override render(): ReactNode {
    if (this.state.thrown === null) return this.props.children
    // The answer that caused the error must not be shown again.
    const retry = () => void queryClient.resetQueries().then(() => this.setState({ thrown: null }))
    return <ErrorAlert thrown={this.state.thrown} title={this.props.title} retry={retry} />
  }
}
