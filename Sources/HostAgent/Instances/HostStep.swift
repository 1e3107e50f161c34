/// The steps of making a microVM, in order. Removal performs them in reverse order.
package enum HostStep: String, Sendable, CaseIterable {
  case journal
  case directory
  case disk
  case network
  case cgroup
  /// Only when a generation is restored.
  case pager
  case vmm
  /// Only when a generation is restored.
  case state
  case guest
  case commit
}

/// The steps of a checkpoint, in order.
package enum CheckpointStep: String, Sendable, CaseIterable {
  case journal
  case draft
  case freeze
  case stop
  case devices
  case memory
  case disk
  /// Only when the guest continues: its writes go to a new overlay.
  case overlay
  case run
  case publish
  /// The journal records what needs the generation: a paused sandbox, a named snapshot, or a compacted chain.
  case commit
}

/// Called before and after every step. Production passes none; tests throw or end the process at a chosen point.
package struct StepObserver: Sendable {
  package enum Moment: Sendable, Equatable {
    case beforeMaking(HostStep)
    case afterMaking(HostStep)
    case beforeRemoving(HostStep)
    case afterRemoving(HostStep)
    case beforeSaving(CheckpointStep)
    case afterSaving(CheckpointStep)

    /// Name of a moment for command lines, such as `making-disk-before`.
    package var name: String {
      switch self {
      case .beforeMaking(let step): "making-\(step.rawValue)-before"
      case .afterMaking(let step): "making-\(step.rawValue)-after"
      case .beforeRemoving(let step): "removing-\(step.rawValue)-before"
      case .afterRemoving(let step): "removing-\(step.rawValue)-after"
      case .beforeSaving(let step): "saving-\(step.rawValue)-before"
      case .afterSaving(let step): "saving-\(step.rawValue)-after"
      }
    }
  }

  package var observe: @Sendable (Moment) async throws -> Void

  package init(observe: @escaping @Sendable (Moment) async throws -> Void = { _ in }) {
    self.observe = observe
  }
}
