import Envd
import LinuxSystem
import Testing

/// A class around the state machine, because expectations cannot call mutating methods.
private final class Lifecycle {
  private var value: ProcessLifecycle

  init(outputs: Int) { value = ProcessLifecycle(outputs: outputs) }

  var end: ProcessEnd? { value.end }

  func outputClosed() -> Bool { value.outputClosed() }
  func exited(_ status: LinuxSystem.ExitStatus) -> Bool { value.exited(status) }
  func stopRequested(isTimeout: Bool = false) -> Bool { value.stopRequested(isTimeout: isTimeout) }
}

@Suite struct ProcessLifecycleTests {
  @Test("a process is over after its exit and the end of all outputs, in any order")
  func endNeedsExitAndOutputs() {
    let exitFirst = Lifecycle(outputs: 2)
    #expect(!exitFirst.exited(.exited(3)))
    #expect(!exitFirst.outputClosed())
    #expect(exitFirst.end == nil)
    #expect(exitFirst.outputClosed())
    #expect(exitFirst.end == ProcessEnd(status: .exited(3)))

    let outputsFirst = Lifecycle(outputs: 2)
    #expect(!outputsFirst.outputClosed())
    #expect(!outputsFirst.outputClosed())
    #expect(outputsFirst.exited(.exited(0)))
  }

  @Test("after a stop request the process is over at its exit, even with open outputs")
  func stopDoesNotWaitForOutputs() {
    let lifecycle = Lifecycle(outputs: 2)
    #expect(!lifecycle.stopRequested())
    #expect(lifecycle.exited(.signaled(9)))
    #expect(lifecycle.end == ProcessEnd(status: .signaled(9)))
    #expect(!lifecycle.outputClosed())
    #expect(!lifecycle.outputClosed())
  }

  @Test("a stop request after the exit ends the wait for outputs")
  func stopAfterExit() {
    let lifecycle = Lifecycle(outputs: 1)
    #expect(!lifecycle.exited(.exited(0)))
    #expect(lifecycle.stopRequested())
    #expect(!lifecycle.stopRequested())
    #expect(lifecycle.end == ProcessEnd(status: .exited(0)))
  }

  @Test("the end of a process reports a time-out")
  func timeout() {
    let lifecycle = Lifecycle(outputs: 1)
    #expect(!lifecycle.stopRequested(isTimeout: true))
    #expect(lifecycle.exited(.signaled(9)))
    #expect(lifecycle.end?.isTimeout == true)
  }

  @Test("a second exit changes nothing")
  func secondExit() {
    let lifecycle = Lifecycle(outputs: 0)
    #expect(lifecycle.exited(.exited(1)))
    #expect(!lifecycle.exited(.exited(2)))
    #expect(lifecycle.end?.status == .exited(1))
  }
}
