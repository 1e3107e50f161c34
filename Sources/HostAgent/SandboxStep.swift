/// The steps of making a sandbox, in order; removal goes through them backwards.
package enum SandboxStep: String, Sendable, CaseIterable {
  case journal
  case directory
  case disk
  case network
  case cgroup
  case vmm
  case guest
  case commit
}

/// Called around every step. Production passes none; tests make steps fail, or the process die, at a chosen point.
package struct StepObserver: Sendable {
  package enum Moment: Sendable, Equatable {
    case beforeMaking(SandboxStep)
    case afterMaking(SandboxStep)
    case beforeRemoving(SandboxStep)
    case afterRemoving(SandboxStep)
  }

  package var observe: @Sendable (Moment) async throws -> Void

  package init(observe: @escaping @Sendable (Moment) async throws -> Void = { _ in }) {
    self.observe = observe
  }
}
