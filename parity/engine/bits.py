"""Bit arithmetic of floating-point words for numba, in the words' own width so that loops fill vector registers.

A word type stands for a format: int64 float64, int32 float32, int16 float16, uint16 bfloat16. numba itself widens every
integer to 64 bits, which halves or quarters the speed; these intrinsics do not.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_compiled: Any = intrinsic  # type checkers would see the compiler's own first argument
_UNSIGNED: Any = {
    types.int64: types.uint64,
    types.int32: types.uint32,
    types.int16: types.uint16,
    types.uint16: types.uint16,
}
_EXPONENT = {types.int64: 0x7FF << 52, types.int32: 0xFF << 23, types.int16: 0x1F << 10, types.uint16: 0xFF << 7}


def _constants(word: Any) -> tuple[ir.IntType, ir.Constant]:
    kind = ir.IntType(word.bitwidth)
    return kind, ir.Constant(kind, (1 << (word.bitwidth - 1)) - 1)


@_compiled
def as_float(typingctx: Any, word: Any) -> Any:
    """The number a word stands for: float64 of an int64, else float32, which holds all the narrow formats exactly."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (bits,) = args
        if word == types.int64:
            return builder.bitcast(bits, ir.DoubleType())
        if word == types.int32:
            return builder.bitcast(bits, ir.FloatType())
        if word == types.int16:
            return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())
        wide = builder.zext(bits, ir.IntType(32))
        return builder.bitcast(builder.shl(wide, ir.Constant(ir.IntType(32), 16)), ir.FloatType())

    number: Any = types.float64 if word == types.int64 else types.float32
    return number(word), codegen


@_compiled
def magnitude(typingctx: Any, word: Any) -> Any:
    """A word without its sign, unsigned; orders like the absolute value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.and_(args[0], _constants(word)[1])

    return _UNSIGNED[word](word), codegen


@_compiled
def distance(typingctx: Any, a: Any, b: Any) -> Any:
    """Representable numbers from `a` to `b`, unsigned: both zeros are one, the largest number is next to infinity."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, mask = _constants(a)
        left, right = (builder.and_(arg, mask) for arg in args)
        apart = builder.icmp_signed("<", builder.xor(*args), ir.Constant(kind, 0))
        larger = builder.icmp_unsigned(">", left, right)
        high, low = builder.select(larger, left, right), builder.select(larger, right, left)
        return builder.select(apart, builder.add(high, low), builder.sub(high, low))

    return _UNSIGNED[a](a, b), codegen


@_compiled
def top_bit(typingctx: Any, word: Any) -> Any:
    """The highest set bit of an unsigned word alone; 0 of 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, _ = _constants(word)
        count = builder.module.declare_intrinsic("llvm.ctlz", [kind], ir.FunctionType(kind, [kind, ir.IntType(1)]))
        zeros = builder.call(count, [args[0], ir.Constant(ir.IntType(1), 0)])
        zeros = builder.and_(zeros, ir.Constant(kind, word.bitwidth - 1))  # a shift by the whole width is undefined
        return builder.and_(args[0], builder.lshr(ir.Constant(kind, 1 << (word.bitwidth - 1)), zeros))

    return word(word), codegen


@_compiled
def is_finite(typingctx: Any, size: Any, word: Any) -> Any:
    """Whether a magnitude belongs to a finite number; `word` only carries the format."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.icmp_unsigned("<", args[0], ir.Constant(args[0].type, _EXPONENT[word]))

    return types.boolean(size, word), codegen


@_compiled
def carry_save(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Sum bit and carry bit of three words, bit by bit (a full adder): three words into two."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, y, z = args
        half = builder.xor(x, y)
        pair = [builder.xor(half, z), builder.or_(builder.and_(x, y), builder.and_(half, z))]
        return context.make_tuple(builder, signature.return_type, pair)

    return types.UniTuple(a, 2)(a, b, c), codegen


@_compiled
def add_bits(typingctx: Any, a: Any, b: Any) -> Any:
    """Sum bit and carry bit of two words, bit by bit (a half adder)."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, signature.return_type, [builder.xor(*args), builder.and_(*args)])

    return types.UniTuple(a, 2)(a, b), codegen


@_compiled
def fetch(typingctx: Any, words: Any, index: Any) -> Any:
    """Ask for the cache line of an element that is needed soon; one beyond the memory's end does no harm."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(words)(context, builder, args[0])
        place = builder.bitcast(builder.gep(array.data, [args[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        # to read, into the second-level cache, data
        builder.call(ask, [place, ir.Constant(number, 0), ir.Constant(number, 2), ir.Constant(number, 1)])
        return context.get_dummy_value()

    return types.void(words, types.intp), codegen


@_compiled
def as_word(typingctx: Any, number: Any) -> Any:
    """The word of a non-negative number, unsigned; orders like the number, and its largest is found in registers."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(number.bitwidth))

    word: Any = types.uint64 if number == types.float64 else types.uint32
    return word(number), codegen


@_compiled
def gather_differences(typingctx: Any, found: Any, a: Any, b: Any) -> Any:
    """`found` with every bit set in which `a` and `b` differ."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.or_(args[0], builder.xor(args[1], args[2]))

    return found(found, a, b), codegen


@_compiled
def as_number(typingctx: Any, word: Any) -> Any:
    """The number whose word `as_word` gave."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType() if word == types.uint64 else ir.FloatType())

    number: Any = types.float64 if word == types.uint64 else types.float32
    return number(word), codegen
