import NIOCore

/// Runs the tasks of a connection on the thread on which its bytes come and go. A request that awaits its own connection then changes
/// threads at no time, which is half of what a small one costs.
///
/// What blocks must not run here, as it must not on the threads of Swift's own pool; a task that is not a child of the connection's runs
/// there as ever.
final class EventLoopExecutor: TaskExecutor {
  private let eventLoop: any EventLoop

  init(_ eventLoop: any EventLoop) {
    self.eventLoop = eventLoop
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    eventLoop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
  }
}
