import CLinux
import Glibc
import LinuxSystem
package import Logging

/// The boot steps of process 1, done before it serves requests. A step that fails is logged and the next one follows:
/// an agent that responds and reports what is missing is more useful than a kernel panic.
package struct GuestBoot: Sendable {
  package let commandLine: KernelCommandLine
  package let userProcesses: UserCgroup?

  /// Exempts the agent from the kernel's out-of-memory killer. Source: proc_pid_oom_score_adj(5).
  private static let protectedScore = "-1000"

  /// Runs all steps. They take little more than their system calls.
  package static func run(usesCgroup: Bool, logger: Logger) -> GuestBoot {
    umask(0o022)
    for failure in GuestMounts.mountAll() { logger.warning("mount failed", metadata: ["error": "\(failure)"]) }
    attempt("protect the agent from the out-of-memory killer", logger) { () throws(SystemError) in
      try SmallFile.write(protectedScore, to: "/proc/self/oom_score_adj")
    }
    let commandLine = KernelCommandLine((try? SmallFile.readText("/proc/cmdline")) ?? "")
    attempt("bring the network up", logger) { () throws(SystemError) in try GuestNetwork.bringUp(commandLine) }
    attempt("write /etc/resolv.conf", logger) { () throws(SystemError) in
      try GuestNetwork.writeResolver(commandLine.nameServers)
    }
    attempt("grow the root file system", logger) { () throws(SystemError) in try growRoot(logger) }
    return GuestBoot(commandLine: commandLine, userProcesses: usesCgroup ? makeCgroup(logger) : nil)
  }

  private static func growRoot(_ logger: Logger) throws(SystemError) {
    let start = ContinuousClock.now
    guard case .grown(let from, let to) = try RootGrowth.run() else { return }
    logger.info(
      "root file system grown",
      metadata: ["blocks.from": "\(from)", "blocks.to": "\(to)", "duration": "\(ContinuousClock.now - start)"])
  }

  private static func makeCgroup(_ logger: Logger) -> UserCgroup? {
    do {
      let memory = MemoryInformation(procMeminfo: try SmallFile.readText("/proc/meminfo"))
      return try UserCgroup.create(totalMemoryBytes: memory.total)
    } catch {
      logger.warning(
        "no control group for user processes: they are not bounded and cannot be frozen",
        metadata: ["error": "\(error)"])
      return nil
    }
  }

  private static func attempt(_ step: String, _ logger: Logger, _ body: () throws(SystemError) -> Void) {
    do {
      try body()
    } catch {
      logger.error("boot step failed", metadata: ["step": "\(step)", "error": "\(error)"])
    }
  }
}
