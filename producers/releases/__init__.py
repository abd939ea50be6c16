"""Operations on releases for people: promote, retire, sign, compare, remove."""
