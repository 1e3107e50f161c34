import Concurrency
import Foundation
import Glibc

import struct Synchronization.Atomic

/// Delivers the process's signals to registered watchers.
///
/// A signal handler may call few functions, so it writes the signal's number to a socket. A thread reads from the
/// socket until the process ends. Signals that the process was started to ignore (nohup(1), background jobs of scripts)
/// stay ignored. Source: signal-safety(7).
final class SignalHub: Sendable {
  static let shared = SignalHub()

  private struct Watcher {
    var signals: [Int32]
    var deliver: @Sendable (Int32) -> Void
  }

  private struct State {
    var isRunning = false
    var nextID = 0
    var watchers: [Int: Watcher] = [:]
    /// The signals' actions before the first watcher was added.
    var previous: [Int32: sigaction] = [:]
  }

  private let state = Mutex(State())

  /// - Returns: the id of the watcher for `remove`.
  /// - Throws: `OperatingSystemError` if no descriptors are left.
  func add(_ signals: [Int32], deliver: @escaping @Sendable (Int32) -> Void) throws -> Int {
    try state.withLock { state in
      if !state.isRunning {
        try start()
        state.isRunning = true
      }
      for signal in signals where state.previous[signal] == nil {
        state.previous[signal] = Self.install(signal)
      }
      state.nextID += 1
      state.watchers[state.nextID] = Watcher(signals: signals, deliver: deliver)
      return state.nextID
    }
  }

  /// Removes a watcher; restores the earlier action of signals that no other watcher watches. Idempotent.
  func remove(_ id: Int) {
    state.withLock { state in
      guard let watcher = state.watchers.removeValue(forKey: id) else { return }
      let stillWatched = Set(state.watchers.values.flatMap(\.signals))
      for signal in watcher.signals where !stillWatched.contains(signal) {
        guard var action = state.previous.removeValue(forKey: signal) else { continue }
        sigaction(signal, &action, nil)
      }
    }
  }

  private func deliver(_ signal: Int32) {
    let watchers = state.withLock { $0.watchers.values.filter { $0.signals.contains(signal) } }
    for watcher in watchers { watcher.deliver(signal) }
  }

  private func start() throws {
    var pair: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &pair) == 0 else { throw OperatingSystemError("cannot make a socket pair") }
    signalDescriptor.store(pair[1], ordering: .sequentiallyConsistent)
    let readEnd = pair[0]
    Thread.detachNewThread { [self] in
      var number: UInt8 = 0
      while true {
        let count = read(readEnd, &number, 1)
        if count == 1 {
          deliver(Int32(number))
        } else if count == 0 || errno != EINTR {
          return
        }
      }
    }
  }

  /// Installs the handler and returns the earlier action; nil if the signal was ignored, and then it stays ignored.
  private static func install(_ signal: Int32) -> sigaction? {
    var action = sigaction()
    var previous = sigaction()
    action.__sigaction_handler.sa_handler = noteSignal
    action.sa_flags = SA_RESTART
    guard sigaction(signal, &action, &previous) == 0 else { return nil }
    guard unsafeBitCast(previous.__sigaction_handler.sa_handler, to: Int.self) != ignored else {
      sigaction(signal, &previous, nil)
      return nil
    }
    return previous
  }

  /// The value of `SIG_IGN`, which Swift imports as a function that cannot be compared.
  private static let ignored = 1
}

/// The socket to which the handler writes; -1 until the first watcher is added.
private let signalDescriptor = Atomic<Int32>(-1)

private func noteSignal(_ signal: Int32) {
  let saved = errno
  var number = UInt8(truncatingIfNeeded: signal)
  // Never blocks: a full socket drops the signal.
  send(signalDescriptor.load(ordering: .sequentiallyConsistent), &number, 1, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
  errno = saved
}
