/// All checks of the machine itself, in the order of the output.
package enum HostProbes {
  private static let limit = Duration.seconds(5)

  /// - Parameter triesKVM: whether to run a test guest, which can take seconds if KVM does not work.
  package static func checks(
    searchPath: String?, dataDirectory: String, imageDirectory: String, triesKVM: Bool = true
  ) async -> [DoctorCheck] {
    var checks = [KernelProbes.root(), KernelProbes.release()]
    // Use a separate thread, because the test guest may hang.
    if triesKVM { checks.append(KVMProbe.check(await ProbeThread.run(limit: limit) { KVMProbe.run() })) }
    checks += ToolProbes(searchPath: searchPath).checks()
    checks.append(KernelProbes.userfaultfd())
    checks.append(KernelProbes.tun())
    checks.append(KernelProbes.networkNamespace())
    checks.append(KernelProbes.controlGroups())
    checks.append(KernelProbes.deviceMapper())
    checks.append(ResourceProbes.disk("data_directory", directory: dataDirectory))
    checks.append(ResourceProbes.disk("image_directory", directory: imageDirectory))
    checks.append(ResourceProbes.memory())
    return checks
  }
}
