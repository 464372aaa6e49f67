"""The audit: does `modern` give what `legacy` gives, and does either give it twice?"""
