import Hypervisor
import Logging
import Model

extension SandboxController {
  private static let interrupted = "the host agent was restarted while the sandbox was being created"

  /// Start-up after a predecessor died: adopt what lives, finish what was begun.
  func performRecovery() async {
    switch lifecycle.state {
    case .running: await adopt()
    case .creating: await withdraw(reason: Self.interrupted)
    case .destroying: try? await performDestroy()
    case .failed(let reason): await performRelease(reason: reason)
    case .gone: break
    }
  }

  private func adopt() async {
    let directory = context.configuration.directory(of: id)
    guard let identity = entry.vmm, let address = entry.hostAddress,
      let machine = try? await context.parts.driver.adopt(identity, runDirectory: directory, cgroup: cgroup)
    else {
      return await reclaim(reason: "the VMM ended while the host agent was down")
    }
    setGuest(
      context.parts.guests.guest(at: address, accessToken: entry.accessToken, id: id))
    watch(machine)
    context.logger.info("adopted", metadata: ["vmm.pid": "\(identity.pid)"])
  }

  private func withdraw(reason: String) async {
    lifecycle = SandboxLifecycle(.failed(reason: reason))
    context.logger.warning("withdrawn", metadata: ["reason": "\(reason)"])
    await performWithdrawal(reason: reason)
  }

  private func reclaim(reason: String) async {
    lifecycle = SandboxLifecycle(.failed(reason: reason))
    context.logger.warning("reclaimed", metadata: ["reason": "\(reason)"])
    await performRelease(reason: reason)
  }
}
