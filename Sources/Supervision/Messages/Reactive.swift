// This source file is part of the Bastion for Swift project
// Licensed under Apache License v2.0 or MIT, at your option
// SPDX-License-Identifier: Apache-2.0 OR MIT

public import LightProc

/// A reactive process: state, and a handler that runs to completion for each message. No task.
///
/// The handler runs on a worker, one message at a time. It must not block; it may throw, which ends the process with
/// that error.
public protocol Reactive: Sendable {
    /// The type of the messages that the process takes.
    associatedtype Message: Sendable
    /// Handles one message; called on a worker, never by two threads at a time.
    mutating func receive(_ message: consuming Message, in context: borrowing ReactiveContext<Self>) throws

    /// How long the process may get no message before ``receiveTimedOut(in:)`` is called; nil, as by default: for ever.
    ///
    /// Looked at when the process is compiled in and costs one without it nothing; one with it, a lock per message and a timer.
    static var receiveTimeout: Duration? { get }
    /// No message was handled for ``receiveTimeout``, and none waits in the user lane. Called again after each further such time.
    mutating func receiveTimedOut(in context: borrowing ReactiveContext<Self>) throws
}

extension Reactive {
    /// None.
    @inlinable
    public static var receiveTimeout: Duration? { @inline(__always) get { nil } }
    /// Does nothing.
    @inlinable
    public mutating func receiveTimedOut(in context: borrowing ReactiveContext<Self>) throws {}
}

/// What a reactive process knows of its surroundings, during the handling of one message.
@frozen
public struct ReactiveContext<Body: Reactive>: ~Copyable {
    @usableFromInline unowned(unsafe) let proc: LightProc

    @inlinable
    init(_ proc: LightProc) { self.proc = proc }

    /// The identity of this process; it stays the same over restarts.
    public var id: ProcID { proc.id }

    /// A reference to this process.
    @inlinable
    public var me: ProcRef<Body.Message> { ProcRef(proc) }

    /// Lets others that are ready have their turn after this message, also if more messages wait.
    @inlinable
    public func yield() { LightProc.endTurn() }

    /// Ends the process normally after this message.
    public func stop() { proc.finish() }

    /// Registers a hook that runs when this incarnation ends, for whatever reason, also after a trap.
    ///
    /// - Returns: What takes the hook back.
    @discardableResult
    public func onExit(_ hook: @escaping @Sendable (ExitReason) -> Void) -> ExitHookToken { proc.onExit(hook) }

    /// Makes a file descriptor this process's own: it is closed when this incarnation ends, for whatever reason.
    ///
    /// On a worker, in reverse order of acquisition, in one order with the exit hooks. See ``LightProc/own(fileDescriptor:)``.
    @discardableResult
    public func own(fileDescriptor: Int32) -> OwnedDescriptor { proc.own(fileDescriptor: fileDescriptor) }

    /// Makes a value this process's own: `release` is called when this incarnation ends, for whatever reason.
    ///
    /// On a worker, in reverse order of acquisition, in one order with the exit hooks; one that traps ends itself only.
    @discardableResult
    public func own<Value: Sendable>(
        _ value: Value,
        release: @escaping @Sendable (Value) -> Void
    ) -> OwnedResource<Value> {
        proc.own(value, release: release)
    }
}

/// Puts a ``Reactive`` where the process layer expects its own protocol.
@frozen @usableFromInline
struct ReactiveAdapter<Body: Reactive>: ReactiveBody {
    @usableFromInline var body: Body

    @inlinable
    init(_ body: Body) { self.body = body }

    @inlinable
    mutating func receive(_ message: consuming Body.Message, on proc: LightProc) throws {
        if Self.takesAnyType { Self.note(message, on: proc) }
        try body.receive(message, in: ReactiveContext(proc))
        if Body.receiveTimeout != nil { proc.noteReceived() }
    }

    /// Whether only the message itself says of which type it is. Known to the compiler where this is specialised.
    @inlinable
    static var takesAnyType: Bool {
        @inline(__always) get {
            !_isPOD(Body.Message.self)
                && (Body.Message.self == (any Sendable).self || Body.Message.self == AnyMessage.self)
        }
    }

    /// Lets a trap report say of which type the message in hand was. Of a process that takes messages of any type.
    @inlinable
    static func note(_ message: borrowing Body.Message, on proc: LightProc) { proc.handles(actualType(of: message)) }

    @inlinable
    static func actualType(of message: borrowing Body.Message) -> Any.Type {
        guard Body.Message.self == AnyMessage.self else { return type(of: copy message as Any) }
        // safety: it is one.
        return unsafeBitCast(copy message, to: AnyMessage.self).payloadType
    }

    @inlinable
    mutating func signalled(_ signal: UInt, on proc: LightProc) throws {
        try body.receiveTimedOut(in: ReactiveContext(proc))
    }

    /// An incarnation begins. In the name of the process.
    @usableFromInline
    static func begin() {
        if let timeout = Body.receiveTimeout { LightProc.current?.beginReceiveTimeout(timeout) }
    }
}
