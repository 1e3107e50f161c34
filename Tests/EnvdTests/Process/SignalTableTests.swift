import Envd
import LinuxSystem
import Protos
import Testing

@Suite struct SignalTableTests {
  @Test("signals of the contract have the kernel's numbers")
  func numbers() throws {
    let expected: [(Process_Signal, Int32)] = [
      (.sighup, 1), (.sigint, 2), (.sigquit, 3), (.sigkill, 9), (.sigusr1, 10), (.sigusr2, 12), (.sigterm, 15),
      (.sigcont, 18),
      (.sigstop, 19),
    ]
    for (signal, number) in expected { #expect(try SignalTable.number(signal) == number) }
  }

  @Test(
    "other signals are refused",
    arguments: [Process_Signal.unspecified, .UNRECOGNIZED(11), .UNRECOGNIZED(-1), .UNRECOGNIZED(64)])
  func unsupported(signal: Process_Signal) {
    #expect(throws: ProcessServiceError.unsupportedSignal(signal.rawValue)) { try SignalTable.number(signal) }
  }

  @Test("end events have the texts that E2B's clients show")
  func endEvents() {
    let success = Process_ProcessEvent.EndEvent(ProcessEnd(status: .exited(0)))
    #expect(success.exitCode == 0 && success.exited && success.status == "exit status 0" && !success.hasError)

    let failure = Process_ProcessEvent.EndEvent(ProcessEnd(status: .exited(3)))
    #expect(
      failure.exitCode == 3 && failure.exited && failure.status == "exit status 3" && failure.error == "exit status 3")

    let killed = Process_ProcessEvent.EndEvent(ProcessEnd(status: .signaled(9), isTimeout: true))
    #expect(
      killed.exitCode == -1 && !killed.exited && killed.status == "signal: killed" && killed.error == "signal: killed")
    #expect(killed.signal == 9 && killed.timedOut)

    #expect(Process_ProcessEvent.EndEvent(ProcessEnd(status: .signaled(15))).status == "signal: terminated")
    #expect(Process_ProcessEvent.EndEvent(ProcessEnd(status: .signaled(50))).status == "signal: signal 50")
  }
}
